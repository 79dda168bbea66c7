package compiler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/pkg/compiler"
	"github.com/fusegate/fusegate/pkg/rego"
)

// asCompiler makes the test binary the process that is tested; it holds its memory.
const asCompiler = "FUSEGATE_TEST_AS_COMPILER"

func TestMain(m *testing.M) {
	if text := os.Getenv(asCompiler); text != "" {
		var memory int64
		if _, err := fmt.Sscan(text, &memory); err != nil {
			panic(err)
		}
		os.Exit(compiler.ExitCode(compiler.Serve(os.Stdin, os.Stdout, memory)))
	}
	os.Exit(m.Run())
}

func command(memory int64) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", asCompiler, memory))
	return cmd
}

// processes makes commands and keeps them.
type processes struct {
	memory int64
	mu     sync.Mutex
	all    []*exec.Cmd
}

func (p *processes) command() *exec.Cmd {
	cmd := command(p.memory)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, cmd)
	return cmd
}

func (p *processes) started() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all)
}

// last is the process that was started last.
func (p *processes) last() *os.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[len(p.all)-1].Process
}

func start(t *testing.T, memory int64) (*compiler.Process, *processes) {
	t.Helper()
	started := &processes{memory: memory}
	p := compiler.New(compiler.Options{Command: started.command, Memory: memory})
	t.Cleanup(func() {
		p.Close()
		for _, cmd := range started.all {
			if cmd.ProcessState == nil {
				t.Errorf("process %d was left behind", cmd.Process.Pid)
			}
		}
	})
	return p, started
}

var fine = source(fires)

// limited is the text of an error that says that a limit is exceeded.
func limited(t *testing.T, err error) string {
	t.Helper()
	var ds rego.Diagnostics
	if !errors.As(err, &ds) || len(ds) != 1 || ds[0].Code != rego.CodeLimit {
		t.Fatalf("got %v, want one diagnostic %s", err, rego.CodeLimit)
	}
	return ds[0].Message
}

// TestBombs wants each to be an error of its own, and a template that comes after it
// to be tried at once.
func TestBombs(t *testing.T) {
	p, _ := start(t, compiler.DefaultMemory)
	for name, tc := range bombs {
		t.Run(name, func(t *testing.T) {
			text := limited(t, p.Try(t.Context(), tc.source))
			if !strings.Contains(text, overTime) && !strings.Contains(text, overMemory) || !strings.Contains(text, "simplify its Rego") {
				t.Errorf("%s: got %q, want the limit and the fix", tc.reason, text)
			}
			if err := p.Try(t.Context(), source(fires, "a := "+fmt.Sprintf("%q", name))); err != nil {
				t.Errorf("%s: a template after it: %v", tc.reason, err)
			}
		})
	}
}

func TestHarmless(t *testing.T) {
	p, _ := start(t, compiler.DefaultMemory)
	for name, tc := range harmless {
		t.Run(name, func(t *testing.T) {
			err := p.Try(t.Context(), tc.source)
			if err == nil && tc.want == "" {
				return
			}
			if err == nil || tc.want == "" || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got %.300v, want %q", tc.reason, err, tc.want)
			}
		})
	}
}

// TestLibrary wants the policy library to compile in one process.
func TestLibrary(t *testing.T) {
	files, err := filepath.Glob("../../templates/*/template.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	p, started := start(t, compiler.DefaultMemory)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var template struct {
			Spec struct {
				Targets []struct {
					rego.Source
					Code []struct{ Source rego.Source }
				}
			}
		}
		if err := yaml.Unmarshal(text, &template); err != nil {
			t.Fatal(err)
		}
		target := template.Spec.Targets[0]
		s := target.Source
		if len(target.Code) > 0 {
			s = target.Code[0].Source
		}
		if s.Rego == "" {
			t.Errorf("%s has no Rego", file)
		} else if err := p.Try(t.Context(), &s); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	if n := started.started(); n != 1 {
		t.Errorf("%d processes were started for %d templates, want one", n, len(files))
	}
}

// TestMemory wants a template that needs more than the limit to be an error of its
// own, by whatever the process ends, and the process never to have more than that.
func TestMemory(t *testing.T) {
	p, started := start(t, compiler.MinMemory)
	for name, s := range map[string]*rego.Source{
		"bit by bit": source(fires, "a := [", steps(40_000, `{"k%[1]d": [%[2]d, %[2]d]},`), "0]\n"),
		"at once":    source(fires, "a := \"", strings.Repeat("x", 40<<20), "\"\n"),
	} {
		t.Run(name, func(t *testing.T) {
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			most := followed(t, started.last().Pid)
			if text := limited(t, p.Try(t.Context(), s)); !strings.Contains(text, "more than 32 MiB "+overMemory) {
				t.Errorf("got %q, want the limit of memory", text)
			}
			if most := most(); most == 0 || most > compiler.MinMemory {
				t.Errorf("the process had %d MiB, want %d at most", most>>20, compiler.MinMemory>>20)
			}
		})
	}
	if err := p.Try(t.Context(), fine); err != nil {
		t.Error("a template after them:", err)
	}
}

// followed looks at the memory of a process that is not of its file, until it has
// ended, and returns a function that waits for that and tells the most there was, in
// bytes.
func followed(t *testing.T, pid int) func() int64 {
	t.Helper()
	done := make(chan int64, 1)
	go func() {
		most := int64(0)
		for {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			_, after, found := strings.Cut(string(text), "RssAnon:")
			if err != nil || !found {
				done <- most
				return
			}
			var kib int64
			if _, err := fmt.Sscan(after, &kib); err == nil {
				most = max(most, kib<<10)
			}
		}
	}()
	return func() int64 { return <-done }
}

// TestVerdicts wants a template to be tried once however often it is asked about.
func TestVerdicts(t *testing.T) {
	p, started := start(t, compiler.DefaultMemory)
	first := p.Try(t.Context(), sharing())
	limited(t, first)
	before := started.started()
	for range 3 {
		if err := p.Try(t.Context(), sharing()); err == nil || err.Error() != first.Error() {
			t.Errorf("got %v, want %v", err, first)
		}
	}
	if n := started.started(); n != before {
		t.Errorf("%d processes were started for what was known", n-before)
	}
}

// TestManyAtOnce has templates tried from many goroutines, bombs among them.
func TestManyAtOnce(t *testing.T) {
	p, _ := start(t, compiler.DefaultMemory)
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			if i%6 == 0 {
				if err := p.Try(t.Context(), sharing()); err == nil {
					t.Error("the bomb compiled")
				}
				return
			}
			if err := p.Try(t.Context(), source(fires, fmt.Sprintf("a := %d", i))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// TestNoAnswer is about what says nothing of the template.
func TestNoAnswer(t *testing.T) {
	noAnswer := func(t *testing.T, err error) {
		t.Helper()
		if !errors.Is(err, rego.ErrNoAnswer) {
			t.Errorf("got %v, want ErrNoAnswer", err)
		}
		if ds := (rego.Diagnostics{}); errors.As(err, &ds) {
			t.Errorf("%v is taken for what is wrong with the template", err)
		}
	}
	t.Run("no time to wait", func(t *testing.T) {
		p, started := start(t, compiler.DefaultMemory)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		noAnswer(t, p.Try(ctx, sharing()))
		limited(t, p.Try(t.Context(), sharing()))
		if n := started.started(); n != 1 {
			t.Errorf("it was tried by %d processes, want the verdict of the first", n)
		}
	})
	t.Run("killed over a template", func(t *testing.T) {
		p := compiler.New(compiler.Options{Memory: compiler.DefaultMemory, Command: func() *exec.Cmd { return exec.Command("/bin/sh", "-c", "read request; kill -9 $$") }})
		defer p.Close()
		noAnswer(t, p.Try(t.Context(), fine))
	})
	t.Run("cannot be started", func(t *testing.T) {
		p := compiler.New(compiler.Options{Memory: compiler.DefaultMemory, Command: func() *exec.Cmd { return exec.Command(t.TempDir() + "/absent") }})
		defer p.Close()
		noAnswer(t, p.Start())
		noAnswer(t, p.Try(t.Context(), fine))
	})
	t.Run("not the compiler", func(t *testing.T) {
		p := compiler.New(compiler.Options{Memory: compiler.DefaultMemory, Command: func() *exec.Cmd { return exec.Command("/bin/sh", "-c", "echo this is no JSON; cat") }})
		defer p.Close()
		noAnswer(t, p.Try(t.Context(), fine))
	})
	t.Run("closed", func(t *testing.T) {
		p, _ := start(t, compiler.DefaultMemory)
		trying := make(chan error, 1)
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { trying <- p.Try(t.Context(), sharing()) }()
		p.Close()
		noAnswer(t, <-trying)
		noAnswer(t, p.Try(t.Context(), fine))
	})
}

// TestDies wants a process that lies idle and is killed to be replaced.
func TestDies(t *testing.T) {
	p, started := start(t, compiler.DefaultMemory)
	if err := p.Try(t.Context(), fine); err != nil {
		t.Fatal(err)
	}
	if err := started.last().Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.Try(t.Context(), source(fires, "another := 1")); err != nil {
		t.Error("after its process was killed:", err)
	}
}

// TestEndsWithItsInput has the process that asks end while a template is compiled.
func TestEndsWithItsInput(t *testing.T) {
	cmd := command(compiler.DefaultMemory)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It would go on for long: a MiB of Rego may take seconds.
	bomb := sharing().Rego + "#" + strings.Repeat("x", 10<<20)
	if _, err := io.WriteString(in, fmt.Sprintf(`{"source": {"rego": %q}}`, bomb)); err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := cmd.Wait(); err != nil {
		t.Errorf("got %v, want a good end", err)
	}
	if used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(); used > 5*time.Second {
		t.Errorf("it used %v of processor time, %v after it was alone", used, time.Since(begun))
	}
}
