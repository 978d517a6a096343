//! Bars and sparklines: the fill of a port range with its half marked, and the last minute in a few columns.

use super::line::{Line, Paint};

const EIGHTHS: [char; 7] =
    ['\u{258f}', '\u{258e}', '\u{258d}', '\u{258c}', '\u{258b}', '\u{258a}', '\u{2589}'];
const HEIGHTS: [char; 8] =
    ['\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}', '\u{2588}'];
const ASCII_HEIGHTS: [char; 8] = ['_', '.', '-', ':', '=', '+', '*', '#'];

/// The narrowest bar that still says something.
pub const NARROWEST: usize = 9;

/// How a fill is painted: up to half is well, above it connect() is slow, near the end it fails.
pub fn paint(fill: f64) -> Paint {
    match fill {
        fill if fill >= 0.9 => Paint::Critical,
        fill if fill > 0.5 => Paint::Warning,
        _ => Paint::Good,
    }
}

/// A bar of `width` columns (an odd number serves best) for a fill of 0 to 1. The column in the middle is the
/// mark at one half: the bar reaches it when exactly half the ports are in use.
pub fn fill(fill: f64, paint: Paint, width: usize, ascii: bool) -> Line {
    let fill = if fill.is_finite() { fill.clamp(0.0, 1.0) } else { 0.0 };
    let half = width.max(3) / 2;
    let left = cells((fill * 2.0).min(1.0), half, ascii);
    let right = cells((fill * 2.0 - 1.0).max(0.0), half, ascii);
    let mark = if ascii { "|" } else { "\u{2502}" };
    Line::new()
        .with(paint, left.0)
        .with(Paint::Faint, left.1)
        .with(if fill > 0.5 { paint } else { Paint::Plain }, mark)
        .with(paint, right.0)
        .with(Paint::Faint, right.1)
}

/// A bar of `width` columns for a share of 0 to 1, with nothing behind it.
pub fn plain(share: f64, paint: Paint, width: usize, ascii: bool) -> Line {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    Line::of(paint, cells(share, width, ascii).0)
}

/// A row of `width` columns filled to `share`: the filled part and the rest.
fn cells(share: f64, width: usize, ascii: bool) -> (String, String) {
    let eighths = (share * width as f64 * 8.0).floor() as usize;
    // Something is never shown as nothing, and less than all never as all.
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    let eighths = if share < 1.0 { eighths.min(width * 8 - 1) } else { width * 8 };
    let (full, part) = (eighths / 8, eighths % 8);
    if ascii {
        let full = if share > 0.0 { full.max(1) } else { full };
        return ("#".repeat(full), "-".repeat(width - full));
    }
    let mut filled = "\u{2588}".repeat(full);
    let mut used = full;
    if let Some(edge) = part.checked_sub(1).and_then(|index| EIGHTHS.get(index)) {
        filled.push(*edge);
        used += 1;
    }
    (filled, "\u{b7}".repeat(width - used))
}

/// `values`, oldest first, in at most `width` columns: neighbours are averaged, the tallest column is the
/// largest mean, and nothing at all is the lowest one.
pub fn spark(values: &[u32], width: usize, ascii: bool) -> String {
    let columns = width.min(values.len());
    if columns == 0 {
        return String::new();
    }
    let means: Vec<f64> = (0..columns)
        .map(|column| {
            let group = &values[column * values.len() / columns..(column + 1) * values.len() / columns];
            group.iter().copied().map(f64::from).sum::<f64>() / group.len() as f64
        })
        .collect();
    let top = means.iter().copied().fold(0.0, f64::max);
    let heights = if ascii { ASCII_HEIGHTS } else { HEIGHTS };
    means
        .into_iter()
        .map(|mean| {
            let height = if top > 0.0 { (mean / top * 7.0).ceil() as usize } else { 0 };
            heights[height.min(7)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(share: f64, width: usize, ascii: bool) -> String {
        let mut out = String::new();
        fill(share, Paint::Good, width, ascii).render(false, &mut out);
        out
    }

    #[test]
    fn the_mark_is_reached_at_exactly_one_half() {
        assert_eq!(drawn(0.5, 9, true), "####|----");
        assert_eq!(drawn(0.51, 9, true), "####|#---");
        assert_eq!(drawn(0.49, 9, true), "###-|----");
        assert_eq!(drawn(0.5, 9, false), "\u{2588}\u{2588}\u{2588}\u{2588}\u{2502}\u{b7}\u{b7}\u{b7}\u{b7}");
    }

    #[test]
    fn little_is_seen_and_nearly_full_is_not_full() {
        assert_eq!(drawn(0.0, 9, true), "----|----");
        assert_eq!(drawn(0.0001, 9, true), "#---|----");
        assert_eq!(drawn(0.999, 9, true), "####|###-");
        assert_eq!(drawn(1.0, 9, true), "####|####");
        assert!(drawn(0.0001, 9, false).starts_with('\u{258f}'));
    }

    #[test]
    fn nonsense_draws_an_empty_bar() {
        assert_eq!(drawn(f64::NAN, 9, true), "----|----");
        assert_eq!(drawn(7.0, 9, true), "####|####");
        assert_eq!(drawn(0.5, 0, true), "#|-");
    }

    #[test]
    fn a_spark_keeps_its_width_and_its_peak() {
        assert_eq!(spark(&[0, 5, 10], 10, true), "_=#");
        assert_eq!(spark(&[0; 60], 6, true), "______");
        assert_eq!(spark(&[], 6, true), "");
        let ramp: Vec<u32> = (0..60).collect();
        assert_eq!(spark(&ramp, 4, true), ".:+#");
    }
}
