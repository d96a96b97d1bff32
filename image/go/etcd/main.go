// Command etcd is etcd's server, unchanged: its own main lies in a module with
// far more requirements than the server needs.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
