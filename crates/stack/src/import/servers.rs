//! Providers that are servers of OpenAI's dialect, by the library's table of servers ([`KnownServer`]).

use serde::{Deserialize, Deserializer, de::IntoDeserializer};
use steadfast::providers::servers::KnownServer;

use crate::{
    Provider,
    tree::{Entry, Node, Value},
};

/// A provider's name in another program's file: one of ours, or a server's in the table. It is read for its errors.
pub(super) struct ProviderName;

impl<'de> Deserialize<'de> for ProviderName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        match server(&name) {
            Some(_) => Ok(Self),
            None => Provider::deserialize(name.into_deserializer()).map(|_| Self),
        }
    }
}

/// Returns the server that a name stands for, unless it is a vendor's own.
fn server(name: &str) -> Option<&'static KnownServer> {
    KnownServer::named(&name.replace('-', "_")).filter(|server| !server.is_vendors())
}

/// Returns true if an address is the server's, over the same transport.
fn is_at(address: &str, server: &KnownServer) -> bool {
    let scheme = |address: &str| address.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    scheme(address) == scheme(server.base_url) && KnownServer::at(address) == Some(server)
}

/// Writes a tier whose provider is a server of the table as one of OpenAI's dialect: with the server's address and the
/// variable that usually holds its key, unless the file has them. The key goes to the server's own address alone.
pub(super) fn resolve(tier: &mut Node) {
    let named = tier.get("provider").and_then(|node| match &node.value {
        Value::Text(name) | Value::Untyped(name) => Some((server(name)?, node.place.clone())),
        _ => None,
    });
    let has = |key: &str| tier.get(key).is_some();
    let (has_address, has_key) = (has("base_url"), has("api_key"));
    // Elsewhere the name says too little, and the reader of the tier tells what to write.
    let Some((server, place)) = named.filter(|(server, _)| has_address || server.has_whole_address()) else { return };
    let is_own = tier.get("base_url").is_none_or(|node| match &node.value {
        Value::Text(address) | Value::Untyped(address) => is_at(address, server),
        _ => false,
    });
    tier.take("provider");
    let mut put = |key: &str, text: String| tier.put(Entry::new(key, place.clone(), Node::text(text, &place)));
    put("provider", "openai".to_owned());
    if !has_address {
        put("base_url", server.base_url.to_owned());
    }
    if let Some(variable) = server.key_variables.first().filter(|_| is_own && !has_key) {
        put("api_key", format!("${{{variable}}}"));
    }
}
