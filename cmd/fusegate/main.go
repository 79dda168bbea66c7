// Command fusegate is all of Fusegate in one binary: what runs in the cluster
// (serve), what puts it there (install, manifests) and what works without one.
package main

import (
	"os"

	"github.com/fusegate/fusegate/cmd/fusegate/app"
)

func main() { os.Exit(app.Main(os.Args[1:])) }
