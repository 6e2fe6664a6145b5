//! The providers' spellings of media types.

/// Returns the registered name of a media type: `image/jpg` is none, and means JPEG.
pub fn media_type_of(said: &str) -> &str {
    match said {
        "image/jpg" | "image/pjpeg" => "image/jpeg",
        other => other,
    }
}
