package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/fusegate/fusegate/test/controlplane"
)

const (
	// apiServer is the user name under which API servers write. They know
	// themselves by a token that is not for others; here a token of the same
	// name and groups is.
	apiServer = "system:apiserver"

	tenantNamespace = "team-a"
	nodeName        = "node-1" // of controlplane.Node

	// The second API server is the one on standby.
	second = 1
)

// bootstrapped are the roles that are missing when the second API server starts,
// so that it writes them: they are of RBAC's bootstrap policy, and nothing here
// depends on them.
var bootstrapped = []string{
	"system:kube-dns",
	"system:kubelet-api-admin",
	"system:node-bootstrapper",
	"system:node-problem-detector",
	"system:persistent-volume-provisioner",
}

// stage is a control plane with one API server running and one to come.
type stage struct {
	plane  *controlplane.ControlPlane
	admin  kubernetes.Interface
	probes []probe
	out    io.Writer // of progress
}

// newStage starts it. The caller closes it.
func newStage(ctx context.Context, progress io.Writer) (*stage, error) {
	plane, err := controlplane.Start(ctx, controlplane.Options{
		Standby: 1,
		Users:   []controlplane.User{{Name: apiServer, Groups: []string{"system:masters"}}},
		Log:     progress,
	})
	if err != nil {
		return nil, err
	}
	s := &stage{plane: plane, out: progress}
	if err := s.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("preparing the stage: %w", err), s.close())
	}
	return s, nil
}

func (s *stage) close() error { return s.plane.Stop() }

// prepare makes what the probes write to, and sees that they can.
func (s *stage) prepare(ctx context.Context) (err error) {
	if s.admin, err = kubernetes.NewForConfig(s.plane.Config(controlplane.Admin)); err != nil {
		return err
	}
	if err := s.populate(ctx); err != nil {
		return err
	}
	for _, name := range bootstrapped {
		if _, err := s.admin.RbacV1().ClusterRoles().Get(ctx, name, metav1.GetOptions{}); err != nil {
			return fmt.Errorf("looking for a role that API servers bootstrap: %w", err)
		}
	}
	for _, p := range probes {
		config := rest.CopyConfig(s.plane.Config(p.user))
		client, err := rest.HTTPClientFor(config)
		if err != nil {
			return err
		}
		p.client, p.host = client, config.Host
		s.probes = append(s.probes, p)
		if err := eventually(ctx, p.write); err != nil {
			return fmt.Errorf("%s without a webhook: %w", p.path, err)
		}
	}
	return nil
}

func (s *stage) populate(ctx context.Context) error {
	_, err := s.admin.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: tenantNamespace},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if _, err = s.admin.RbacV1().Roles(tenantNamespace).Create(ctx, tenantRole(), metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err = s.admin.RbacV1().RoleBindings(tenantNamespace).Create(ctx, tenantBinding(), metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err = s.admin.CoreV1().ConfigMaps(tenantNamespace).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "replay"},
	}, metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err = s.admin.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "replay"},
	}, metav1.CreateOptions{}); err != nil {
		return err
	}
	return eventually(ctx, s.createLease)
}

// createLease waits for the namespace, which the API server makes a moment
// after it is ready.
func (s *stage) createLease(ctx context.Context) error {
	_, err := s.admin.CoordinationV1().Leases(corev1.NamespaceNodeLease).Create(ctx, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: nodeName},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// tenantRole is instead of the ClusterRole edit, which the controller manager
// fills.
func tenantRole() *rbacv1.Role {
	return &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "tenant"},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"*"}, APIGroups: []string{""}, Resources: []string{"configmaps"}}},
	}
}

func tenantBinding() *rbacv1.RoleBinding {
	return &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "tenant"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "tenant"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: controlplane.Tenant}},
	}
}
