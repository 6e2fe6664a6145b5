//! Answers: whole and streamed, in each dialect's own grammar, read again by that dialect's own leaf.
