//! The one table.

use crate::pairs::Pair;

#[derive(Default)]
pub struct Table(Vec<[String; 4]>);

impl Table {
    /// `met` is `None` where there is no target.
    pub fn row(&mut self, what: &str, figure: String, target: &str, met: Option<bool>) {
        let verdict = met.map_or("", |met| if met { "yes" } else { "NO" });
        eprintln!("{what}: {figure}");
        self.0.push([what.to_owned(), figure, target.to_owned(), verdict.to_owned()]);
    }

    /// One side may cost 5 % more than the other.
    pub fn compare(&mut self, what: &str, pair: Pair) {
        let more = (pair.ratio - 1.0) * 100.0;
        let figure = format!("{more:+.1} % (least {:.0} us / {:.0} us)", pair.least[0], pair.least[1]);
        self.row(what, figure, "< 5 %", Some(more < 5.0));
    }

    pub fn print(&self) {
        let head = ["what", "figure", "target", "met"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(&head).chain(&self.0).collect();
        let widths: Vec<usize> = (0..4).map(|column| rows.iter().map(|row| row[column].len()).max().unwrap()).collect();
        let line = |row: &[String; 4]| {
            let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            println!("| {} |", cells.join(" | "));
        };
        line(&head);
        line(&[0, 1, 2, 3].map(|column| "-".repeat(widths[column])));
        self.0.iter().for_each(line);
    }
}
