// Command etcd is etcd's server and, called etcdctl, its client, both unchanged.
// Their own mains lie in modules with far more requirements, and one program
// with both is hardly larger than the server alone.
package main

import (
	"os"
	"path/filepath"

	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	if filepath.Base(os.Args[0]) == "etcdctl" {
		ctlv3.MustStart()
		return
	}
	etcdmain.Main(os.Args)
}
