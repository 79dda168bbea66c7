package controlplane

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Version is the Kubernetes version that hack/controlplane builds. A test
// compares it with hack/controlplane/go.mod, which pins it.
const Version = "v1.37.2"

const (
	assetsEnv  = "KUBEBUILDER_ASSETS"
	cacheEnv   = "FUSEGATE_CONTROLPLANE_CACHE"
	versionEnv = "CONTROLPLANE_VERSION"
)

const (
	etcdName              = "etcd"
	apiServerName         = "kube-apiserver"
	controllerManagerName = "kube-controller-manager"
	schedulerName         = "kube-scheduler"
	kubectlName           = "kubectl"
	kwokName              = "kwok"
)

// Assets are the paths of the binaries. One that nobody asked for may be
// missing and is then empty.
type Assets struct {
	Etcd, APIServer, ControllerManager, Scheduler, Kubectl, Kwok string
}

// MissingError says which binaries are nowhere to be found.
type MissingError struct {
	// Names are the file names of the binaries.
	Names []string
	// Folders are where they were looked for, in order.
	Folders []string
}

// Error names the binaries, the folders and the fix.
func (e *MissingError) Error() string {
	return fmt.Sprintf("control plane binaries %q not found in %q: run `make controlplane` to build them", e.Names, e.Folders)
}

// Binaries locates the five binaries of Kubernetes; kwok is none of them. Each
// is taken from the folder that KUBEBUILDER_ASSETS names if it is there, else
// from the cache that hack/controlplane fills: <user cache>/fusegate/controlplane,
// or FUSEGATE_CONTROLPLANE_CACHE, and below it <version>-<os>-<arch>. The version
// is Version, or what CONTROLPLANE_VERSION says; that of another version is looked
// for in the cache only, and etcd and kwok in the folder of Version. The error is a
// *MissingError if one is in neither.
func Binaries() (Assets, error) {
	return locate(etcdName, apiServerName, controllerManagerName, schedulerName, kubectlName)
}

// locate finds the named binaries only.
func locate(names ...string) (Assets, error) {
	var a Assets
	missing := &MissingError{}
	for _, name := range names {
		folders, err := searchPath(name)
		if err != nil {
			return Assets{}, err
		}
		if *a.field(name) = find(name, folders); *a.field(name) == "" {
			missing.Names = append(missing.Names, name)
			missing.Folders = folders
		}
	}
	if len(missing.Names) > 0 {
		return Assets{}, missing
	}
	return a, nil
}

func (a *Assets) field(name string) *string {
	return map[string]*string{
		etcdName:              &a.Etcd,
		apiServerName:         &a.APIServer,
		controllerManagerName: &a.ControllerManager,
		schedulerName:         &a.Scheduler,
		kubectlName:           &a.Kubectl,
		kwokName:              &a.Kwok,
	}[name]
}

// Tested is the version of the control planes that are started: Version, unless
// CONTROLPLANE_VERSION says otherwise.
func Tested() string { return cmp.Or(os.Getenv(versionEnv), Version) }

// searchPath lists the folders that may hold a binary, the preferred first. A
// machine without a cache directory still has KUBEBUILDER_ASSETS.
func searchPath(name string) ([]string, error) {
	version := Tested()
	if name == etcdName || name == kwokName {
		version = Version // what is not Kubernetes is there once
	}
	var folders []string
	if dir := os.Getenv(assetsEnv); dir != "" && version == Version {
		folders = append(folders, dir)
	}
	parent := os.Getenv(cacheEnv)
	if parent == "" {
		cache, err := os.UserCacheDir()
		if err != nil && len(folders) == 0 {
			return nil, fmt.Errorf("finding the user's cache directory (set %s or %s instead): %w", assetsEnv, cacheEnv, err)
		}
		if err != nil {
			return folders, nil
		}
		parent = filepath.Join(cache, "fusegate", "controlplane")
	}
	return append(folders, filepath.Join(parent, fmt.Sprintf("%s-%s-%s", version, runtime.GOOS, runtime.GOARCH))), nil
}

// find returns the absolute path of the first folder's binary, or "".
func find(name string, folders []string) string {
	for _, folder := range folders {
		path, err := filepath.Abs(filepath.Join(folder, name))
		if err != nil {
			continue
		}
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// Made identifies the build of etcd and the API server that Start would use, and
// names a folder beside the latter in which something may be kept for it.
func Made() (folder, id string, err error) {
	a, err := locate(etcdName, apiServerName)
	if err != nil {
		return "", "", err
	}
	for _, path := range []string{a.Etcd, a.APIServer} {
		fi, err := os.Stat(path)
		if err != nil {
			return "", "", err
		}
		id += fmt.Sprintf("-%x-%x", fi.Size(), fi.ModTime().UnixNano())
	}
	return filepath.Dir(a.APIServer), id[1:], nil
}
