//! The file's owner.

use rusqlite::{Connection, Error, OptionalExtension as _, TransactionBehavior};

use super::clock::now;
use crate::owner::StoreOwner;

const OWNER: &str = "SELECT name FROM owner";
const OWN: &str = "INSERT OR REPLACE INTO owner (id, name, since) VALUES (1, ?1, ?2)";

/// Makes a deployment the owner of a file that has none, or that it takes over. Returns the owner if that is another.
pub(super) fn claim(file: &mut Connection, owner: &StoreOwner) -> Result<Option<String>, Error> {
    let known = |file: &Connection| file.query_row(OWNER, (), |row| row.get::<_, String>(0)).optional();
    if known(file)?.is_some_and(|known| known == *owner.name) {
        return Ok(None);
    }
    // Of several that come first, the others see the one.
    let writing = file.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let other = known(&writing)?.filter(|known| !owner.may_open(known));
    if other.is_none() {
        writing.execute(OWN, (&*owner.name, now()))?;
    }
    writing.commit()?;
    Ok(other)
}
