package controlplane

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Kubectl runs the real kubectl as a user at the first API server, with a home
// and a cache of its own, and returns what it printed. The error of a command
// that fails contains its standard error and wraps an *exec.ExitError. It
// panics on an unknown user as Config does.
func (c *ControlPlane) Kubectl(ctx context.Context, user, stdin string, args ...string) (stdout, stderr string, err error) {
	assets, err := locate(kubectlName)
	if err != nil {
		return "", "", err
	}
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, assets.Kubectl, append([]string{"--kubeconfig=" + c.Kubeconfig(user)}, args...)...)
	cmd.Env = append(environment(c.kubectlHome()), "KUBECACHEDIR="+filepath.Join(c.kubectlHome(), "cache"))
	cmd.WaitDelay = gracePeriod // a plugin that it ran may hold on to the output
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	release, err := Spawn(cmd)
	if err == nil {
		err = cmd.Wait()
		release()
	}
	if err != nil {
		err = fmt.Errorf("running kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), errOut.String(), err
}

// KubectlPath is where kubectl is. The error is a *MissingError if it is
// nowhere.
func KubectlPath() (string, error) {
	assets, err := locate(kubectlName)
	return assets.Kubectl, err
}

func (c *ControlPlane) kubectlHome() string { return c.dir.file("kubectl") }
