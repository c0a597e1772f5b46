//! HTML: the frame around every page, and [`escape`], through which all text must go.

use axum::response::Html;

/// Returns a whole page. `title` is text, `body` is HTML.
pub(crate) fn page(title: &str, body: &str) -> Html<String> {
    let title = escape(title);
    Html(format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title} - Shop</title>\n\
         <nav><a href=\"/\">Shop</a> <a href=\"/users\">Users</a> <a href=\"/products\">Products</a></nav>\n\
         <h1>{title}</h1>\n{body}\n</html>\n"
    ))
}

/// Returns a list of this tag, `ul` or `ol`; the items are HTML.
pub(crate) fn list(tag: &str, items: impl IntoIterator<Item = String>) -> String {
    let items: String = items
        .into_iter()
        .map(|item| format!("<li>{item}</li>\n"))
        .collect();
    format!("<{tag}>\n{items}</{tag}>")
}

/// Returns the link to the next page of a list.
pub(crate) fn next_link(path: &str, page: u32) -> String {
    let next = page.saturating_add(1);
    format!("<p><a href=\"{path}?page={next}\">Next page</a></p>")
}

/// Returns text as HTML that shows it and does nothing else, in content and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_place() {
        assert_eq!(
            escape("<a href=\"x\" id='y'>&"),
            "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;"
        );
    }
}
