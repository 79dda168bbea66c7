//go:build unix

package controlplane

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestReserve checks that a reserved port is nobody else's.
func TestReserve(t *testing.T) {
	first, err := reserve()
	if err != nil {
		t.Fatal(err)
	}
	second, err := reserve()
	if err != nil {
		t.Fatal(err)
	}
	defer second.release()
	if first.port == second.port {
		t.Fatalf("port %d was reserved twice", first.port)
	}
	address := fmt.Sprintf("127.0.0.1:%d", first.port)
	if _, err := net.Listen("tcp", address); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listening on a reserved port: got %v, want address in use", err)
	}
	first.release()
	first.release()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("listening after release: %v", err)
	}
	_ = listener.Close()
}

// TestSweep checks which data directories a new one clears away.
func TestSweep(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		age    time.Duration
		closed bool
		kept   bool
		want   bool
	}{
		"Abandoned": {reason: "Its owner was killed.", age: time.Hour, closed: true, want: false},
		"Owned":     {reason: "Its owner lives, however old it is.", age: time.Hour, want: true},
		"Young":     {reason: "Its owner may be about to lock it.", closed: true, want: true},
		"Kept":      {reason: "Its owner asked for it to stay.", age: time.Hour, kept: true, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			d, err := newDirectory(parent)
			if err != nil {
				t.Fatal(err)
			}
			then := time.Now().Add(-tc.age)
			if err := os.Chtimes(d.file(ownerFile), then, then); err != nil {
				t.Fatal(err)
			}
			if tc.kept {
				err = d.close(true)
			}
			if tc.closed {
				err = d.owner.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			next, err := newDirectory(parent)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(d.path); (err == nil) != tc.want {
				t.Errorf("%s: got %v, want existing = %t", tc.reason, err, tc.want)
			}
			if err := next.close(false); err != nil {
				t.Error(err)
			}
			if left, _ := filepath.Glob(next.path); left != nil {
				t.Errorf("close left %q", left)
			}
		})
	}
}

func TestLastLines(t *testing.T) {
	for name, tc := range map[string]struct {
		content string
		want    string
	}{
		"Empty":       {"", ""},
		"Fewer":       {"a\nb\n", "a\nb"},
		"Exactly":     {"a\nb\nc\n", "a\nb\nc"},
		"More":        {"a\nb\nc\nd\n", "b\nc\nd"},
		"NoNewline":   {"a\nb\nc\nd", "b\nc\nd"},
		"LeadingLine": {"\nb\nc\n", "\nb\nc"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, string(lastLines([]byte(tc.content), 3))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestLastReason reads logs as Kubernetes components write them.
func TestLastReason(t *testing.T) {
	for name, tc := range map[string]struct {
		log  string
		want string
	}{
		"Empty": {"", ""},
		"Alive": {"I1122 14:00:00.000000    1234 main.go:1] Error: not at the start\n", ""},
		"Fatal": {
			"E1122 14:00:00.000000    1234 a.go:1] \"an error\"\n" +
				"F1122 14:00:01.123456    1234 hooks.go:204] PostStartHook \"x\" failed: timed out\ngoroutine 1 [running]:\nmain.main()\n",
			`PostStartHook "x" failed: timed out`,
		},
		"Command":   {"Usage:\n  x [flags]\nError: unknown flag: --y\n", "unknown flag: --y"},
		"Panic":     {"panic: nil map\n\ngoroutine 1 [running]:\n", "nil map"},
		"Last":      {"Error: first\nF1122 14:00:01.123456       1 a.go:2] second", "second"},
		"ErrorLine": {"E1122 14:00:00.000000    1234 run.go:72] \"command failed\" err=\"bad file\"\n", `"command failed" err="bad file"`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lastReason([]byte(tc.log)); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
