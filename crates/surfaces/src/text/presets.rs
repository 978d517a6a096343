//! The list of capacity presets: what each stands for and where its figures are from.

use tidewait_model::capacity::Preset;

use super::line::{Line, Paint};
use super::number;
use super::page::Paper;

/// One preset after the other.
pub fn write(paper: &mut Paper<'_>, presets: &[Preset]) {
    for preset in presets {
        let time_wait = preset.time_wait_seconds.map_or_else(
            || "TIME_WAIT not said".to_owned(),
            |seconds| format!("{} s", number::seconds(seconds)),
        );
        let figures = format!("{} ports, {time_wait}", number::count(u64::from(preset.ports)));
        paper.prose(Line::of(Paint::Strong, format!("{}  ", preset.id)), Paint::Plain, preset.title);
        paper.prose(Line::plain("  "), Paint::Plain, &figures);
        paper.prose(Line::plain("  "), Paint::Plain, preset.meaning);
        paper.prose(Line::plain("  "), Paint::Faint, preset.source);
    }
}
