//! The list of capacity presets: what each stands for and where its figures are from.

use tidewait_model::capacity::{Preset, Quantity};

use super::capacity::amount;
use super::line::{Line, Paint};
use super::page::Paper;

/// A block for each preset. Those that differ in nothing but a number say what they mean once.
pub fn write(paper: &mut Paper<'_>, presets: &[Preset]) {
    let widest = presets.iter().map(|preset| preset.id.len()).max().unwrap_or(0);
    for (index, preset) in presets.iter().enumerate() {
        let id = Line::of(Paint::Strong, preset.id);
        let id = if paper.width() >= 60 { id.pad(widest) } else { id };
        let ports = Line::plain(amount(Quantity::Ports, preset.ports.into())).pad_left(12);
        let time_wait = preset
            .time_wait_seconds
            .map_or("TIME_WAIT ?".to_owned(), |seconds| amount(Quantity::TimeWaitSeconds, seconds));
        paper.flow(0, [id, ports, Line::plain(time_wait)]);
        paper.prose(Line::plain("    "), Paint::Plain, preset.title);
        let next = presets.get(index + 1);
        if next.is_none_or(|next| (next.meaning, next.source) != (preset.meaning, preset.source)) {
            paper.prose(Line::plain("    "), Paint::Faint, preset.meaning);
            paper.prose(Line::plain("    "), Paint::Faint, preset.source);
        }
    }
}
