//! What runs on the cluster and is not the control plane: CoreDNS, kube-proxy, the pod network. One file and its objects each.
