//! The declarations of a formatted schema, which has one declaration on each line.

/// A field of a message, a value of an enum, or an RPC of a service.
#[derive(Debug)]
pub(crate) struct Element {
    /// What it belongs to: `message`, `enum` or `service`.
    pub(crate) scope: String,
    pub(crate) owner: String,
    pub(crate) name: String,
    /// Type and number. An RPC has neither, and an enum value has no type.
    pub(crate) kind: String,
    pub(crate) number: u32,
    line: usize,
}

/// All elements of a file.
pub(crate) fn elements(text: &str) -> Vec<Element> {
    let (mut scope, mut owner) = ("", "");
    let mut found = Vec::new();
    for (line, code) in text.lines().enumerate() {
        let words: Vec<_> = code.trim_end_matches(';').split_whitespace().collect();
        let (name, kind, number) = match *words.as_slice() {
            ["//", ..] => continue,
            [which @ ("message" | "enum" | "service"), name, ..] => {
                (scope, owner) = (which, name);
                continue;
            }
            ["rpc", call, ..] => (call.split('(').next().unwrap_or(call), "", "0"),
            [name, "=", number] => (name, "", number),
            [.., kind, name, "=", number] => (name, kind, number),
            _ => continue,
        };
        // A declaration outside of all scopes, the syntax, has no number.
        if let Ok(number) = number.parse() {
            found.push(Element {
                scope: scope.to_owned(),
                owner: owner.to_owned(),
                name: name.to_owned(),
                kind: kind.to_owned(),
                number,
                line,
            });
        }
    }
    found
}

/// The file, with each element replaced by the result of `change`; an empty result removes the element.
/// A oneof is removed with its last field.
pub(crate) fn rewrite(text: &str, change: impl Fn(&Element, &str) -> Option<String>) -> String {
    let mut lines: Vec<_> = text.lines().map(|line| Some(line.to_owned())).collect();
    for element in elements(text) {
        if let Some(line) = lines.get_mut(element.line) {
            *line = line.take().and_then(|line| change(&element, &line));
        }
    }
    let mut lines: Vec<_> = lines.into_iter().flatten().collect();
    lines.retain(|line| !line.trim_start().starts_with("//"));
    while let Some(empty) = lines.windows(2).position(is_empty_oneof) {
        lines.drain(empty..empty + 2);
    }
    lines.join("\n")
}

fn is_empty_oneof(pair: &[String]) -> bool {
    matches!(pair, [head, end] if head.trim_start().starts_with("oneof ") && end.trim() == "}")
}
