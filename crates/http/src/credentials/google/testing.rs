//! The throwaway key of `testdata/`, which `vectors.py` made.

use crate::internal::base64;

pub(super) const PKCS8: &str = include_str!("testdata/key.b64");
pub(super) const PKCS1: &str = include_str!("testdata/rsa.b64");
pub(super) const PUBLIC: &str = include_str!("testdata/public.b64");

/// Returns a key's bytes.
pub(super) fn der(text: &str) -> Vec<u8> {
    base64::decode(&text.split_whitespace().collect::<String>()).expect("base64")
}

/// Returns a key in PEM.
pub(super) fn pem(mark: &str, text: &str) -> String {
    format!("-----BEGIN {mark}-----\n{}\n-----END {mark}-----\n", text.trim())
}
