//! What a reply may say in words.

/// Cuts a text to what a reply may hold, and takes out what a terminal could stumble over.
pub(crate) fn bounded(mut text: String) -> String {
    text.retain(|c| !c.is_control());
    let mut end = text.len().min(protocol::limits::MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
