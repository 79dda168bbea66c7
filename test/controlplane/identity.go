package controlplane

import (
	"crypto/rand"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// The users that every control plane knows. Tenants have no rights but those
// of every authenticated user; the others have what RBAC's bootstrap policy and
// the node authorizer give them.
const (
	Admin             = "admin" // group system:masters
	Tenant            = "tenant"
	OtherTenant       = "other-tenant"
	Node              = "system:node:node-1" // group system:nodes
	ControllerManager = "system:kube-controller-manager"
	Scheduler         = "system:kube-scheduler"
)

var defaultUsers = []User{
	{Name: Admin, Groups: []string{"system:masters"}},
	{Name: Tenant},
	{Name: OtherTenant},
	{Name: Node, Groups: []string{"system:nodes"}},
	{Name: ControllerManager},
	{Name: Scheduler},
}

// User is an identity that the API servers accept by token. Every user is in
// the group system:authenticated as well.
type User struct {
	Name   string
	Groups []string
}

type identity struct {
	User
	token string
}

// identities gives each user a token. A name that is taken is an error, as the
// API server would silently use the later one.
func identities(extra []User) ([]identity, error) {
	var ids []identity
	taken := map[string]bool{}
	for _, u := range append(defaultUsers[:len(defaultUsers):len(defaultUsers)], extra...) {
		if u.Name == "" || taken[u.Name] {
			return nil, fmt.Errorf("user %q: the name is empty or taken", u.Name)
		}
		taken[u.Name] = true
		ids = append(ids, identity{User: u, token: rand.Text()})
	}
	return ids, nil
}

// writeTokens writes the file for --token-auth-file: token, name, uid and, if
// there are any, groups. An empty fourth column would be a group without name.
func writeTokens(path string, ids []identity) error {
	var b strings.Builder
	w := csv.NewWriter(&b)
	for _, id := range ids {
		record := []string{id.token, id.Name, id.Name}
		if len(id.Groups) > 0 {
			record = append(record, strings.Join(id.Groups, ","))
		}
		if err := w.Write(record); err != nil {
			return err
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return err
	}
	return writePrivate(path, []byte(b.String()))
}

// Config returns a new client configuration for a user at the first API
// server. The client does not limit its own rate. A user that is neither a
// default one nor in Options.Users is a mistake of the caller and panics.
func (c *ControlPlane) Config(user string) *rest.Config {
	return c.ConfigOf(0, user)
}

// ConfigOf is Config at the API server with the index.
func (c *ControlPlane) ConfigOf(apiServer int, user string) *rest.Config {
	return &rest.Config{
		Host:            c.url(c.servers()[apiServer]),
		BearerToken:     c.identity(user).token,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.pki.ca.pem},
		QPS:             -1,
	}
}

func (c *ControlPlane) identity(user string) identity {
	for _, id := range c.users {
		if id.Name == user {
			return id
		}
	}
	panic(fmt.Sprintf("controlplane: no user %q: name it in Options.Users", user))
}

// Kubeconfig returns the path of a file for a user at the first API server. It
// panics as Config does.
func (c *ControlPlane) Kubeconfig(user string) string {
	return c.KubeconfigOf(0, user)
}

// KubeconfigOf is Kubeconfig at the API server with the index.
func (c *ControlPlane) KubeconfigOf(apiServer int, user string) string {
	name := strings.NewReplacer("/", "_", string(filepath.Separator), "_").Replace(c.identity(user).Name)
	return filepath.Join(c.kubeconfigs(apiServer), name)
}

func (c *ControlPlane) kubeconfigs(apiServer int) string {
	return c.dir.file(filepath.Join("kubeconfig", fmt.Sprint(apiServer)))
}

// writeKubeconfigs writes one file per user and API server.
func (c *ControlPlane) writeKubeconfigs() error {
	for i := range c.servers() {
		if err := os.MkdirAll(c.kubeconfigs(i), 0o700); err != nil {
			return fmt.Errorf("creating the folder of kubeconfigs: %w", err)
		}
		for _, id := range c.users {
			err := clientcmd.WriteToFile(kubeconfig(c.ConfigOf(i, id.Name)), c.KubeconfigOf(i, id.Name))
			if err != nil {
				return fmt.Errorf("writing the kubeconfig of %s: %w", id.Name, err)
			}
		}
	}
	return nil
}

func kubeconfig(r *rest.Config) clientcmdapi.Config {
	const name = "fusegate"
	return clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: r.Host, CertificateAuthorityData: r.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {Token: r.BearerToken}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name, Namespace: "default"}},
		CurrentContext: name,
	}
}
