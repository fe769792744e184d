//! The node and the millpond command.
