//! The package: an OCI image layout that holds a node's files and images, verified before it is used.
