module edgeboot.io/image/archive

go 1.26
