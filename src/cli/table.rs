//! Tables for people, as kubeadm prints them: columns of their own width (at least ten), three blanks between them.

/// The least width of a column, with the blanks after it.
const LEAST: usize = 10;
/// Blanks after the longest cell.
const BLANKS: usize = 3;

/// A table; the first row is the heads of its columns.
pub fn render<'a>(rows: &[Vec<&'a str>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(|column| LEAST.max(widest(column) + BLANKS)).collect();
    let line = |row: &Vec<&'a str>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<String>().trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let rows = [vec!["CERTIFICATE", "EXPIRES", "CA"], vec!["a", "in ages", ""], vec!["äöü", "Nov 21, 2027", "front-proxy-ca"]];
        assert_eq!(
            render(&rows),
            "CERTIFICATE   EXPIRES        CA\na             in ages\näöü           Nov 21, 2027   front-proxy-ca"
        );
        assert_eq!(render(&[]), "");
    }
}
