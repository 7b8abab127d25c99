//! The book: every answer that was released, durably.
