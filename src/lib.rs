//! edgeboot: power on a Linux image, and the machine is a Kubernetes node.

pub mod cli;
pub mod components;
pub mod config;
pub mod engine;
pub mod error;
pub mod host;
pub mod k8s;
pub mod package;
pub mod phases;
