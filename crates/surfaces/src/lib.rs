//! Shows the facts of the model: as text, to monitoring systems, as JSON schemas. Imports the model and nothing else of the workspace.

pub mod plugin;
pub mod schema;
pub mod settings_page;
pub mod text;

#[cfg(test)]
mod samples;
