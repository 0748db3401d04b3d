//! Columns for people, as `kubectl` writes them.

/// Rows under a heading, each column as wide as its widest cell, three spaces between.
pub fn table(heading: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| {
            let padding = width - cell.chars().count();
            format!("{cell}{}", " ".repeat(padding))
        });
        padded.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    };
    let heading = line(heading.to_vec());
    let rows = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    std::iter::once(heading).chain(rows).collect()
}

/// The same in at most `width` characters where that can be reached: columns that are worth the least there go first, by
/// their headings in `spare`.
pub fn narrow_table(heading: &[&str], rows: &[Vec<String>], width: usize, spare: &[&str]) -> Vec<String> {
    let (mut heading, mut rows, mut spare) = (heading.to_vec(), rows.to_vec(), spare.iter());
    loop {
        let lines = table(&heading, &rows);
        if lines.iter().all(|line| line.chars().count() <= width) {
            return lines;
        }
        let Some(column) = spare.next() else { return lines };
        if let Some(at) = heading.iter().position(|known| known == column) {
            heading.remove(at);
            rows.iter_mut().for_each(|row| {
                row.remove(at);
            });
        }
    }
}

/// `sha256:` and the first twelve hex digits are enough to tell digests apart.
pub fn short_digest(digest: Option<&str>) -> String {
    let Some(digest) = digest else { return "-".to_owned() };
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex.chars().take(12).collect()
}

/// A dash where there is nothing.
pub fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// `text` as one line that shows what it is: a line break, or a sequence that moves the cursor, would not.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// `text` in at most `width` characters.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["sql".to_owned(), "Running".to_owned()], vec!["überlang".to_owned(), String::new()]];
        assert_eq!(table(&["NAME", "PHASE"], &rows), ["NAME       PHASE", "sql        Running", "überlang"]);
    }

    #[test]
    fn columns_that_matter_least_go_first_where_there_is_no_room() {
        let rows = vec![vec!["default".to_owned(), "sql".to_owned(), "Failed".to_owned(), "Incompatible".to_owned()]];
        let heading = ["NAMESPACE", "NAME", "PHASE", "REASON"];
        let narrow = |width| narrow_table(&heading, &rows, width, &["NAMESPACE", "NONE", "PHASE"]);
        assert_eq!(narrow(80), table(&heading, &rows));
        assert_eq!(narrow(30), ["NAME   PHASE    REASON", "sql    Failed   Incompatible"]);
        assert_eq!(narrow(20), ["NAME   REASON", "sql    Incompatible"]);
        assert_eq!(narrow(1), narrow(20), "the others stay");
    }

    #[test]
    fn text_of_others_moves_no_cursor() {
        assert_eq!(one_line("a\nb\u{1b}[2J ä"), "a\u{fffd}b\u{fffd}[2J ä");
    }

    #[test]
    fn a_digest_is_shown_by_its_first_digits() {
        assert_eq!(short_digest(Some("sha256:0123456789abcdef")), "0123456789ab");
        assert_eq!(short_digest(None), "-");
        assert_eq!(cut("abcdef", 4), "abc…");
    }
}
