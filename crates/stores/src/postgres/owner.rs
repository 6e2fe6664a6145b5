//! The database's owner.

use tokio_postgres::{Client, Error};

use crate::owner::StoreOwner;

const OWNER: &str = "SELECT name FROM steadfast_owner";
/// Of several that come first, the others wait for the one, and change nothing.
const OWN: &str = "INSERT INTO steadfast_owner (id, name, since) VALUES (1, $1, steadfast_now())
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, since = excluded.since WHERE steadfast_owner.name = $2";

/// Makes a deployment the owner of a database that has none, or that it takes over. Returns the owner if that is
/// another.
pub(super) async fn claim(client: &Client, owner: &StoreOwner) -> Result<Option<String>, Error> {
    let known = async || match client.query_opt(OWNER, &[]).await? {
        Some(row) => row.try_get::<_, String>(0).map(Some),
        None => Ok(None),
    };
    if known().await?.is_some_and(|known| known == *owner.name) {
        return Ok(None);
    }
    client.execute(OWN, &[&&*owner.name, &owner.former.as_deref()]).await?;
    Ok(known().await?.filter(|known| *known != *owner.name))
}
