//! Recurrent cells as bodies of loops.
