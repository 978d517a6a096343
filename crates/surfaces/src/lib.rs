//! Shows the facts of the model: as text and as JSON schemas. Imports the model and nothing else of the workspace.
