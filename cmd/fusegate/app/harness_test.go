package app

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// asBinary makes the test binary behave as fusegate itself, for what is about exit
// codes. What needs a control plane is tested in test/.
const asBinary = "FUSEGATE_TEST_AS_BINARY"

func TestMain(m *testing.M) {
	if os.Getenv(asFull) != "" {
		os.Exit(full())
	}
	if os.Getenv(asBinary) != "" {
		os.Exit(Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// command is this test binary as fusegate.
func command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asBinary+"=1")
	return cmd
}

// fusegate runs the binary and returns what it printed and its exit code.
func fusegate(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := command(args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}
