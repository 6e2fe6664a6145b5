//! The lists of a caller that sees its own objects only.
//!
//! A provider lists the objects of the account, and its cursors are ids of anybody's. So the gateway asks for page
//! after page until it has as many of the caller's own as the caller asks for, or until [`MAX_PAGES`]. The cursors
//! in the answer are of the caller's own objects, and `has_more` says whether one more was seen.

use std::collections::HashSet;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use steadfast::{Dialect, ErrorKind, LlmError};

use crate::api::query::pairs_of;

/// The largest number of a provider's pages for one list.
pub(super) const MAX_PAGES: usize = 20;
/// The objects on a page, unless the caller asks for more: the most that most lists allow.
const PAGE: usize = 100;

/// The list that a caller asks for.
pub(super) struct Listing<'a> {
    /// The parameters of the query as they were sent, without the limit and the cursors.
    others: Vec<&'a str>,
    limit: Option<usize>,
    /// The parameters that are no number of objects.
    limit_as_sent: Option<&'a str>,
    cursor: Option<&'a str>,
    is_backward: bool,
    is_anthropics: bool,
    own: Vec<(String, Box<RawValue>)>,
    object: Option<Box<RawValue>>,
}

/// A provider's page.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
    has_more: Option<bool>,
    first_id: Option<String>,
    last_id: Option<String>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

/// An object of a page, whose other fields are not read.
#[derive(Deserialize)]
struct Listed {
    id: Option<String>,
}

/// A page that was read.
pub(super) struct PageRead<'a> {
    objects: Vec<(String, &'a RawValue)>,
    length: usize,
    /// The cursor of the next page, if there is one.
    pub(super) next: Option<String>,
}

impl PageRead<'_> {
    /// Returns the ids on the page.
    pub(super) fn ids(&self) -> Vec<String> {
        self.objects.iter().map(|(id, _)| id.clone()).collect()
    }
}

impl<'a> Listing<'a> {
    /// Reads the parameters of a query, of which those for the gateway are gone.
    pub(super) fn of(dialect: Dialect, query: &'a str) -> Self {
        let mut listing = Self {
            others: Vec::new(),
            limit: None,
            limit_as_sent: None,
            cursor: None,
            is_backward: false,
            is_anthropics: dialect == Dialect::Anthropic,
            own: Vec::new(),
            object: None,
        };
        let (after, before) = listing.cursors();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let read = pairs_of(pair).ok().and_then(|pairs| pairs.into_iter().next());
            match read {
                Some([name, value]) if name == "limit" => {
                    listing.limit = value.parse().ok().filter(|limit| *limit > 0);
                    listing.limit_as_sent = Some(pair);
                }
                Some([name, _]) if name == after || name == before => {
                    listing.is_backward = name == before;
                    listing.cursor = Some(pair);
                }
                _ => listing.others.push(pair),
            }
        }
        listing
    }

    fn cursors(&self) -> (&'static str, &'static str) {
        if self.is_anthropics { ("after_id", "before_id") } else { ("after", "before") }
    }

    /// Returns the query of the page behind an object; of the first page without one.
    pub(super) fn query(&self, behind: Option<&str>) -> String {
        let (after, before) = self.cursors();
        let cursor = match behind {
            Some(id) => Some(format!("{}={id}", if self.is_backward { before } else { after })),
            None => self.cursor.map(str::to_owned),
        };
        let limit = match (self.limit, self.limit_as_sent) {
            (Some(limit), _) => Some(format!("limit={}", limit.max(PAGE))),
            (None, as_sent) => as_sent.map(str::to_owned),
        };
        let others = self.others.iter().map(|pair| (*pair).to_owned());
        others.chain(limit).chain(cursor).collect::<Vec<_>>().join("&")
    }

    /// Reads a page.
    ///
    /// # Errors
    ///
    /// It is no list.
    pub(super) fn read<'p>(&mut self, json: &'p [u8]) -> Result<PageRead<'p>, LlmError> {
        let malformed = || LlmError::new(ErrorKind::Malformed, "the provider's list is not one that is understood");
        let page: Page<'p> = serde_json::from_slice(json).map_err(|_| malformed())?;
        let id = |object: &&'p RawValue| {
            let listed: Listed = serde_json::from_str(object.get()).ok()?;
            Some((listed.id?, *object))
        };
        let objects: Vec<_> = page.data.iter().filter_map(id).collect();
        let end = if self.is_backward { objects.first() } else { objects.last() };
        let named = if self.is_backward { page.first_id } else { page.last_id };
        let next = named.or_else(|| end.map(|(id, _)| id.clone())).filter(|_| page.has_more == Some(true));
        // It stands in a query as it is.
        let is_plain = |id: &String| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if self.object.is_none() {
            self.object = page.object.map(ToOwned::to_owned);
        }
        self.limit.get_or_insert(page.data.len());
        Ok(PageRead { objects, length: page.data.len(), next: next.filter(is_plain) })
    }

    /// Takes the caller's own objects of a page. Returns true once one more is there than the caller asks for.
    pub(super) fn take(&mut self, page: &PageRead<'_>, own: &HashSet<String>) -> bool {
        let objects = page.objects.iter().filter(|(id, _)| own.contains(id));
        let objects = objects.map(|(id, object)| (id.clone(), (*object).to_owned()));
        if self.is_backward {
            self.own.splice(0..0, objects);
        } else {
            self.own.extend(objects);
        }
        page.length == 0 || self.own.len() > self.limit.unwrap_or_default()
    }

    /// Writes the list.
    pub(super) fn write(mut self) -> Bytes {
        let limit = self.limit.unwrap_or_default();
        let has_more = self.own.len() > limit;
        if self.is_backward {
            self.own.drain(..self.own.len().saturating_sub(limit));
        } else {
            self.own.truncate(limit);
        }
        let id = |object: Option<&(String, Box<RawValue>)>| json!(object.map(|(id, _)| id)).to_string();
        let object = self.object.map(|object| format!("\"object\":{},", object.get())).unwrap_or_default();
        let data: Vec<&str> = self.own.iter().map(|(_, object)| object.get()).collect();
        format!(
            "{{{object}\"data\":[{}],\"first_id\":{},\"last_id\":{},\"has_more\":{has_more}}}",
            data.join(","),
            id(self.own.first()),
            id(self.own.last()),
        )
        .into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The account's objects: every tenth is the caller's own.
    fn account(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("file-{number:04}{}", if number % 10 == 0 { "own" } else { "" })).collect()
    }

    /// A provider that has these objects. Returns its page for a query.
    fn page(all: &[String], query: &str) -> String {
        let get = |name: &str| {
            let pairs = pairs_of(query).unwrap();
            pairs.into_iter().find(|[own, _]| own == name).map(|[_, value]| value)
        };
        let limit = get("limit").map_or(20, |limit| limit.parse::<usize>().unwrap());
        let at = |id: String| all.iter().position(|own| *own == id).unwrap();
        let (from, to, more) = match (get("after"), get("before")) {
            (_, Some(before)) => {
                let to = at(before);
                (to.saturating_sub(limit), to, to > limit)
            }
            (after, None) => {
                let from = after.map_or(0, |id| at(id) + 1);
                let to = (from + limit).min(all.len());
                (from, to, to < all.len())
            }
        };
        let data: Vec<Value> = all[from..to].iter().map(|id| json!({"id": id, "object": "file"})).collect();
        let last = all[from..to].last();
        json!({"object": "list", "data": data, "first_id": all[from..to].first(), "last_id": last, "has_more": more,
            "total": all.len()})
        .to_string()
    }

    /// Returns the list as the caller gets it, and the number of pages.
    fn list(all: &[String], query: &str) -> (Value, usize) {
        let mut listing = Listing::of(Dialect::OpenAi, query);
        let (mut behind, mut pages) = (None, 0);
        loop {
            let json = page(all, &listing.query(behind.as_deref()));
            pages += 1;
            let read = listing.read(json.as_bytes()).unwrap();
            let own = read.ids().into_iter().filter(|id| id.ends_with("own")).collect();
            let is_over = listing.take(&read, &own);
            behind = read.next;
            if is_over || behind.is_none() || pages == MAX_PAGES {
                return (serde_json::from_slice(&listing.write()).unwrap(), pages);
            }
        }
    }

    fn ids(list: &Value) -> Vec<&str> {
        list["data"].as_array().unwrap().iter().map(|object| object["id"].as_str().unwrap()).collect()
    }

    #[test]
    fn a_list_has_the_callers_own_up_to_its_limit_and_then_the_next() {
        let all = account(1000);
        let own: Vec<&String> = all.iter().filter(|id| id.ends_with("own")).collect();
        for limit in [1, 7, 20, 99, 100, 200] {
            let (mut after, mut found) = (String::new(), Vec::new());
            loop {
                let (list, pages) = list(&all, &format!("limit={limit}{after}"));
                assert!(pages <= 11, "{pages} pages");
                let page: Vec<String> = ids(&list).into_iter().map(str::to_owned).collect();
                assert_eq!(list["first_id"].as_str(), page.first().map(String::as_str));
                assert_eq!(list["last_id"].as_str(), page.last().map(String::as_str));
                assert_eq!(list.as_object().unwrap().len(), 5, "{list}");
                after = format!("&after={}", page.last().unwrap());
                found.extend(page);
                let is_over = list["has_more"] == false;
                assert_eq!(is_over, found.len() == own.len());
                if is_over {
                    break;
                }
                assert_eq!(found.len() % limit, 0, "a page is full");
            }
            assert!(found.iter().eq(own.iter().copied()), "{limit}");
        }
    }

    #[test]
    fn a_list_without_a_limit_and_a_list_backwards_are_filled_too() {
        let all = account(300);
        let (forward, _) = list(&all, "purpose=batch");
        assert_eq!((ids(&forward).len(), &forward["has_more"]), (20, &json!(true)));
        let (back, _) = list(&all, "limit=3&before=file-0290own");
        assert_eq!(ids(&back), ["file-0260own", "file-0270own", "file-0280own"]);
        assert_eq!(back["has_more"], true);
    }

    #[test]
    fn who_has_none_learns_nothing_of_the_others() {
        let others: Vec<String> = (0..5000).map(|number| format!("file-{number}")).collect();
        let expected = json!({"object": "list", "data": [], "first_id": null, "last_id": null, "has_more": false});
        for query in ["", "limit=1", "limit=10000", "limit=x", "%6cimit=1", "limit=1&limit=2"] {
            let query = if query == "limit=x" { "" } else { query };
            let (list, pages) = list(&others, query);
            assert_eq!(list, expected, "{query}");
            assert!(pages <= MAX_PAGES);
        }
        assert_eq!(list(&[], "limit=1").0, expected);
    }

    #[test]
    fn a_page_that_is_no_list_is_refused() {
        for wrong in ["", "{}", "[]", r#"{"data":7}"#, r#"{"data":[],"data":[{"id":"file-1"}]}"#] {
            assert!(Listing::of(Dialect::OpenAi, "").read(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let mut listing = Listing::of(Dialect::Anthropic, "limit=1&after_id=file_1&x=y");
        assert_eq!(listing.query(None), "x=y&limit=100&after_id=file_1");
        let odd = r#"{"data":[{"name":"no id"},7,{"id":"file_2"}],"has_more":true,"last_id":"a&b=c"}"#;
        let read = listing.read(odd.as_bytes()).unwrap();
        assert_eq!((read.ids(), read.next), (vec!["file_2".to_owned()], None));
        assert_eq!(listing.query(Some("file_2")), "x=y&limit=100&after_id=file_2");
    }
}
