// Command helm is Helm as it is released, without the plugins by which clouds authenticate:
// the tests render, check and install charts/appfn with it.
package main

import (
	"errors"
	"fmt"
	"os"

	"helm.sh/helm/v4/pkg/cmd"
	"helm.sh/helm/v4/pkg/kube"
)

func main() {
	// The manager of the fields Helm sets would otherwise be called as this file is.
	kube.ManagedFieldsManager = "helm"
	root, err := cmd.NewRootCmd(os.Stdout, os.Args[1:], cmd.SetupLogging)
	if err != nil {
		fmt.Fprintln(os.Stderr, "helm:", err)
		os.Exit(1)
	}
	// The command itself says what was wrong.
	if err := root.Execute(); err != nil {
		var ended cmd.CommandError
		if errors.As(err, &ended) {
			os.Exit(ended.ExitCode)
		}
		os.Exit(1)
	}
}
