package app

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"

	"github.com/fusegate/fusegate/pkg/compiler"
)

// compilerCommand is how fusegate starts itself to try templates. It is no command
// for people.
const compilerCommand = "compiler"

func newCompiler() *cobra.Command {
	var memory int64
	cmd := &cobra.Command{
		Use:    compilerCommand,
		Short:  "Try templates for another process of fusegate",
		Hidden: true,
		Args:   noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := compiler.Serve(cmd.InOrStdin(), cmd.OutOrStdout(), memory); err != nil {
				return exit{compiler.ExitCode(err), err}
			}
			return nil
		},
	}
	cmd.Flags().Int64Var(&memory, "memory", compiler.DefaultMemory, "limit in bytes")
	return cmd
}

// ownCompiler returns the compiler of this process, which may use as much memory,
// in bytes. It is to be closed.
func ownCompiler(memory int64, log logr.Logger) *compiler.Process {
	return compiler.New(compiler.Options{Memory: memory, Log: log, Command: func() *exec.Cmd {
		return selfCommand(compilerCommand, "--memory", strconv.FormatInt(memory, 10))
	}})
}

// offlineCompiler is the compiler of a command that ends with its work. It is
// started when the first template comes.
func offlineCompiler() *compiler.Process { return ownCompiler(compilerMemory(), logr.Discard()) }

// selfCommand is this very binary with other arguments. On Linux it is that even
// when the file has been replaced.
func selfCommand(args ...string) *exec.Cmd {
	self := "/proc/self/exe"
	if runtime.GOOS != "linux" {
		self, _ = os.Executable() // starting it fails if it is not known
	}
	cmd := exec.Command(self, args...)
	cmd.Args[0] = os.Args[0]
	return cmd
}
