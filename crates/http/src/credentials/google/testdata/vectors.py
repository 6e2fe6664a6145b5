#!/usr/bin/env python3
"""Makes the files beside it: a throwaway RSA key, and 200 JWTs that PyJWT signs with it.

RS256 (RFC 7518, section 3.3) has no random part, so that two implementations agree byte for byte if they agree at all.

    pip install pyjwt==2.15.1 cryptography && python3 vectors.py

It keeps a key that is there. `key.b64` is its PKCS#8 form, and `rsa.b64` its PKCS#1 form, both in base64 without the
marks of PEM, which scanners of repositories look for; `public.b64` is the public key (RSAPublicKey, RFC 8017, A.1.1).
A line of `vectors.jsonl` is [kid, iss, scope, aud, iat, exp, SHA-256 of the JWT in hexadecimal].
"""
import base64
import hashlib
import json
import random
from pathlib import Path

import jwt
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import rsa

HERE = Path(__file__).parent


def save(name, der):
    (HERE / name).write_text(base64.encodebytes(der).decode())


if not (HERE / "key.b64").exists():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = (form.Encoding.DER, form.PrivateFormat.PKCS8, form.NoEncryption())
    save("key.b64", key.private_bytes(*private))
    save("rsa.b64", key.private_bytes(form.Encoding.DER, form.PrivateFormat.TraditionalOpenSSL, form.NoEncryption()))
    save("public.b64", key.public_key().public_bytes(form.Encoding.DER, form.PublicFormat.PKCS1))
key = form.load_der_private_key(base64.decodebytes((HERE / "key.b64").read_bytes()), None)

seed = random.Random(21)
# Printable ASCII, with quotes and backslashes; a control character now and then. Beyond ASCII the JSON of Python
# differs from others' without a difference in meaning.
LETTERS = [chr(code) for code in range(32, 127)] + ["\n", "\t", "\x01", "\x1f"]


def word(longest):
    return "".join(seed.choice(LETTERS) for _ in range(seed.randint(1, longest)))


with open(HERE / "vectors.jsonl", "w") as out:
    for number in range(200):
        kid = None if number % 10 == 9 else seed.randbytes(20).hex() if number % 2 else word(20)
        claims = {"iss": f"{word(12)}@project-{number}.iam.gserviceaccount.com", "scope": word(40), "aud": word(30)}
        claims["iat"] = seed.randint(0, 1 << 33)
        claims["exp"] = claims["iat"] + seed.randint(1, 3600)
        token = jwt.encode(claims, key, algorithm="RS256", headers={"kid": kid} if kid else None)
        row = [kid, *claims.values(), hashlib.sha256(token.encode()).hexdigest()]
        print(json.dumps(row, separators=(",", ":")), file=out)
