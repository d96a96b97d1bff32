//! From what users write to the wish: gather every source, layer them into one document, check it, and make a [`node::Node`].

pub mod node;

#[cfg(test)]
pub mod sample;
