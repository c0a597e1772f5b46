//! The attribute and derive macros of Larder live in this crate; it exports none yet.
