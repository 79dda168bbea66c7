// Command bench-test measures fusegate test: how long it takes, and how much
// memory, to judge many Pods by many constraints of the library.
//
// Run it from the root of the repository with the binary to measure:
//
//	make bench-test
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fusegate/fusegate/templates"
)

func main() {
	binary := flag.String("binary", "bin/fusegate", "the fusegate to measure")
	pods := flag.Int("pods", 5000, "how many Pods there are")
	constraints := flag.Int("constraints", 40, "how many constraints match them")
	flag.Parse()
	if err := run(*binary, *pods, *constraints); err != nil {
		fmt.Fprintln(os.Stderr, "bench-test:", err)
		os.Exit(1)
	}
}

func run(binary string, pods, constraints int) error {
	dir, err := os.MkdirTemp("", "bench-test")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := writePods(dir, pods); err != nil {
		return err
	}
	n, err := writePolicies(dir, constraints)
	if err != nil {
		return err
	}
	return measure(binary, dir, pods, n)
}

// pod has two containers, as most have.
const pod = `---
apiVersion: v1
kind: Pod
metadata: {name: pod-%[1]d, namespace: team-%[2]d, labels: {app: shop, owner: alice}}
spec:
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: main
    image: registry.example.com/shop/main:v1.%[1]d
    args: [--port=8080]
    ports: [{containerPort: 8080, name: http}]
    env: [{name: A, value: "1"}, {name: B, valueFrom: {secretKeyRef: {name: shop, key: b}}}]
    resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {cpu: 200m, memory: 256Mi}}
    readinessProbe: {httpGet: {path: /healthz, port: 8080}}
    livenessProbe: {httpGet: {path: /healthz, port: 8080}}
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: data, mountPath: /data}]
  - name: sidecar
    image: registry.example.com/shop/sidecar:v2
    resources: {requests: {cpu: 50m, memory: 64Mi}, limits: {cpu: 100m, memory: 128Mi}}
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
  volumes: [{name: data, emptyDir: {}}]
`

// perFile is how many Pods are in a file.
const perFile = 100

func writePods(dir string, n int) error {
	for first := 0; first < n; first += perFile {
		var b bytes.Buffer
		for i := first; i < min(first+perFile, n); i++ {
			fmt.Fprintf(&b, pod, i, i%50)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("pods-%05d.yaml", first)), b.Bytes(), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// writePolicies writes constraints of the library that match Pods, and their
// templates; it says how many.
func writePolicies(dir string, n int) (int, error) {
	written := 0
	samples, err := fs.Glob(templates.FS, "*/samples/*.yaml")
	if err != nil {
		return 0, err
	}
	for _, sample := range samples {
		text, err := fs.ReadFile(templates.FS, sample)
		if err != nil {
			return 0, err
		}
		if written == n || !bytes.Contains(text, []byte("apiVersion: constraints.gatekeeper.sh")) || !bytes.Contains(text, []byte("Pod")) {
			continue
		}
		folder, _, _ := strings.Cut(sample, "/")
		template, err := fs.ReadFile(templates.FS, folder+"/template.yaml")
		if err != nil {
			return 0, err
		}
		err = errors.Join(
			os.WriteFile(filepath.Join(dir, "template-"+folder+".yaml"), template, 0o600),
			os.WriteFile(filepath.Join(dir, "constraint-"+strings.ReplaceAll(sample, "/", "-")), text, 0o600))
		if err != nil {
			return 0, err
		}
		written++
	}
	return written, nil
}

func measure(binary, dir string, pods, constraints int) error {
	cmd := exec.Command(binary, "test", dir, "-o", "json")
	cmd.Stderr = os.Stderr
	start := time.Now()
	out, err := cmd.Output()
	took := time.Since(start)
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return fmt.Errorf("running fusegate test: %w", err)
	}
	used, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("this system does not say what a process has used")
	}
	fmt.Printf("%d Pods by %d constraints, %d bytes of findings\n", pods, constraints, len(out))
	fmt.Printf("test: %.1f s  cpu: %.1f s  rss: %d MB\n", took.Seconds(),
		(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), used.Maxrss>>10)
	return nil
}
