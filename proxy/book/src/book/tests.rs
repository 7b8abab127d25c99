//! The book as the edge holds it, on real files.

mod cost;
mod failing_disks;
mod real_files;
mod support;
