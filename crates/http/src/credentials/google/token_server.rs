//! The words for and about a token server.

use http::Uri;

/// The scope of all of Google's cloud, within the roles that the account has.
pub(super) const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Returns a token server's name in errors.
pub(super) fn name(url: &Uri) -> String {
    format!("the token server `{}`", url.host().unwrap_or_default())
}
