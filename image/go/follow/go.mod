module edgeboot.io/image/follow

go 1.26
