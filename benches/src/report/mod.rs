//! Results for people: [`table`] on the console, [`html`] a page that is complete in itself, [`svg`] its plots.

pub mod html;
pub mod svg;
pub mod table;
#[cfg(test)]
mod tests;
