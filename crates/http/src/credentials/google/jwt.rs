//! A JSON Web Token signed with RS256 (RFC 7515, section 3.1; RFC 7518, section 3.3; RFC 7523, section 3).

use ring::{
    rand::SystemRandom,
    rsa::KeyPair,
    signature::{self, RSA_PKCS1_SHA256},
};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use serde::Serialize;

use crate::internal::base64;

/// The head. Fields are in the order of the alphabet.
#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
    typ: &'static str,
}

/// The claims that Google's token server reads. Times are seconds since 1970.
#[derive(Serialize)]
pub(super) struct Claims<'a> {
    pub(super) iss: &'a str,
    pub(super) scope: &'a str,
    pub(super) aud: &'a str,
    pub(super) iat: u64,
    pub(super) exp: u64,
}

/// Signs the claims. `None` if the key cannot sign.
pub(super) fn sign(key: &KeyPair, key_id: Option<&str>, claims: &Claims<'_>) -> Option<String> {
    let part = |json: serde_json::Result<Vec<u8>>| json.ok().map(|json| base64::encode_url(&json));
    let head = Header { alg: "RS256", kid: key_id, typ: "JWT" };
    let signed = format!("{}.{}", part(serde_json::to_vec(&head))?, part(serde_json::to_vec(claims))?);
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).ok()?;
    Some(format!("{signed}.{}", base64::encode_url(&signature)))
}

/// Reads an RSA key in PEM: PKCS#8 as Google writes it, or PKCS#1. An error is the problem and the remedy.
pub(super) fn key(pem: &str) -> Result<signature::RsaKeyPair, &'static str> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
        if pem.contains("\\n") {
            "it is no PEM: its line breaks are spelled as a backslash and an n; escape them once, not twice"
        } else {
            "it is no PEM: it must begin with `-----BEGIN PRIVATE KEY-----`; download the key again"
        }
    })?;
    let key = match &key {
        PrivateKeyDer::Pkcs8(key) => KeyPair::from_pkcs8(key.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(key) => KeyPair::from_der(key.secret_pkcs1_der()),
        _ => return Err("it is no RSA key; Google's service accounts have RSA keys"),
    };
    key.map_err(|_| "it is no RSA key of 2048 to 4096 bits; download the key again")
}

#[cfg(test)]
mod tests {
    use ring::{
        digest::{SHA256, digest},
        signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
    };
    use serde_json::Value;

    use super::*;
    use crate::credentials::google::testing::{PKCS1, PKCS8, PUBLIC, der, pem};

    /// `testdata/vectors.py` made them with PyJWT.
    const VECTORS: &str = include_str!("testdata/vectors.jsonl");

    #[test]
    fn jwts_are_byte_equal_to_those_of_pyjwt() {
        let key = key(&pem("PRIVATE KEY", PKCS8)).unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der(PUBLIC));
        let mut count = 0;
        for line in VECTORS.lines() {
            let row: Vec<Value> = serde_json::from_str(line).unwrap();
            let text = |at: usize| row[at].as_str().unwrap();
            let (iat, exp) = (row[4].as_u64().unwrap(), row[5].as_u64().unwrap());
            let claims = Claims { iss: text(1), scope: text(2), aud: text(3), iat, exp };
            let jwt = sign(&key, row[0].as_str(), &claims).unwrap();
            let hash: String = digest(&SHA256, jwt.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hash, text(6), "{line}");
            let (signed, signature) = jwt.rsplit_once('.').unwrap();
            let signature = base64::decode(&signature.replace('-', "+").replace('_', "/")).unwrap();
            public.verify(signed.as_bytes(), &signature).expect("the public key agrees");
            count += 1;
        }
        assert_eq!(count, 200);
    }

    #[test]
    fn both_forms_of_a_key_sign_alike() {
        let claims = Claims { iss: "i", scope: "s", aud: "a", iat: 1, exp: 2 };
        let jwts = [("PRIVATE KEY", PKCS8), ("RSA PRIVATE KEY", PKCS1)]
            .map(|(mark, text)| sign(&key(&pem(mark, text)).unwrap(), Some("k"), &claims).unwrap());
        assert_eq!(jwts[0], jwts[1]);
    }

    #[test]
    fn a_key_that_cannot_be_used_is_explained() {
        let whole = pem("PRIVATE KEY", PKCS8);
        for (text, problem) in [
            ("", "it is no PEM"),
            ("MIIE", "it is no PEM"),
            (&*whole.replace('\n', "\\n"), "escape them once"),
            (&*whole.replace("-----END", "----- END"), "it is no PEM"),
            (&*whole.replace("MIIE", "????"), "it is no PEM"),
            (&*pem("PUBLIC KEY", PUBLIC), "it is no PEM"),
            (&*pem("EC PRIVATE KEY", "AAAA"), "it is no RSA key"),
            (&*pem("PRIVATE KEY", "AAAA"), "it is no RSA key"),
        ] {
            let told = key(text).err().unwrap();
            assert!(told.contains(problem), "{told}");
        }
    }
}
