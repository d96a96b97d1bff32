//! Words in, exit codes out; the only place that prints.
