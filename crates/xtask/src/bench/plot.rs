//! A bar chart as SVG.

/// Heights and widths in pixels.
const ROW: usize = 26;
const LABELS: usize = 210;
const BARS: f64 = 520.0;

/// One bar for each name, as long as its value, which stands behind it.
pub(super) fn bars(title: &str, values: &[(String, f64)]) -> String {
    let longest = values.iter().map(|(_, value)| *value).fold(1.0, f64::max);
    let height = (values.len() + 2) * ROW;
    let width = 840;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"22\" font-weight=\"bold\">{title}</text>\n"
    );
    for (row, (name, value)) in values.iter().enumerate() {
        let top = (row + 1) * ROW + 8;
        let text = top + 14;
        let length = (value / longest * BARS).max(1.0);
        let right = LABELS - 8;
        let fill = if name.starts_with("this") {
            "#2a6f97"
        } else {
            "#adb5bd"
        };
        svg.push_str(&format!(
            "<text x=\"{right}\" y=\"{text}\" text-anchor=\"end\">{name}</text>\
             <rect x=\"{LABELS}\" y=\"{top}\" width=\"{length:.0}\" height=\"18\" fill=\"{fill}\"/>\
             <text x=\"{:.0}\" y=\"{text}\">{value:.0}</text>\n",
            length + 216.0
        ));
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_longest_bar_fills_the_room_and_the_others_are_in_proportion() {
        let values = [("this".to_owned(), 400.0), ("that".to_owned(), 100.0)];
        let svg = super::bars("title", &values);
        assert!(svg.contains("width=\"520\" height=\"18\"") && svg.contains("width=\"130\""));
        assert_eq!(svg.matches("<rect").count(), 3);
    }
}
