//! Shows the facts of the model: as text and as JSON schemas. Imports the model and nothing else of the workspace.

pub mod schema;
pub mod text;

#[cfg(test)]
mod samples;
