//! What kubectl prints, without what is different each time.

/// The text with each of `known` replaced by its word, times and ages by words, and columns two blanks apart, however wide
/// they were.
pub fn masked(text: &str, known: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (value, word) in known {
        text = text.replace(value, word);
    }
    let lines: Vec<String> = text.lines().map(line).collect();
    lines.join("\n")
}

fn line(line: &str) -> String {
    let rest = line.trim_start();
    let indent = &line[..line.len() - rest.len()];
    let cells: Vec<String> = rest.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(cell).collect();
    format!("{indent}{}", cells.join("  "))
}

fn cell(cell: &str) -> String {
    if is_age(cell) {
        return "AGE".to_owned();
    }
    let words: Vec<&str> = cell.split(' ').map(|word| if is_time(word) { "TIME" } else { word }).collect();
    words.join(" ")
}

/// `2026-01-31T12:00:00Z`, in quotes or not.
fn is_time(word: &str) -> bool {
    let shape: String = word.trim_matches('"').chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00Z"
}

/// `7s`, `2m5s`.
fn is_age(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
        && word.ends_with(['s', 'm', 'h'])
        && word.chars().all(|c| c.is_ascii_digit() || "smh".contains(c))
}

#[test]
fn what_differs_is_masked_and_columns_lose_their_width() {
    let text = "Name:      a-x7f\n  Time:  2026-01-31T12:00:00Z\nNormal  Loaded   12s   on a-x7f";
    assert_eq!(masked(text, &[("a-x7f", "POD")]), "Name:  POD\n  Time:  TIME\nNormal  Loaded  AGE  on POD");
}
