package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/hack/rig"
	"github.com/fusegate/fusegate/templates"
	"github.com/fusegate/fusegate/test/controlplane"
)

const (
	namespaces = 50
	writers    = 16
)

// stage is a cluster with Pods in it.
type stage struct {
	options
	plane *controlplane.ControlPlane
	admin client.Client
	pods  kubernetes.Interface
	names []client.ObjectKey // of the Pods
	// server is the API server's time.
	server clock
	// constraints are what is applied once their templates are ready.
	constraints []*unstructured.Unstructured
}

func newStage(ctx context.Context, o options) (*stage, error) {
	plane, err := controlplane.Start(ctx, controlplane.Options{Log: os.Stderr})
	if err != nil {
		return nil, err
	}
	s := &stage{options: o, plane: plane, server: clock{pid: plane.Processes()["kube-apiserver-0"]}}
	if s.pods, err = kubernetes.NewForConfig(plane.Config(controlplane.Admin)); err == nil {
		s.admin, err = client.New(plane.Config(controlplane.Admin), client.Options{})
	}
	if err != nil {
		return nil, errors.Join(err, plane.Stop())
	}
	return s, nil
}

// populate makes namespaces and Pods, and installs what Fusegate needs.
func (s *stage) populate(ctx context.Context) error {
	if err := rig.ApplyKinds(ctx, s.admin); err != nil {
		return err
	}
	for i := range namespaces {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespaceName(i)}}
		if _, err := s.pods.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "making %d Pods\n", s.options.pods)
	return s.makePods(ctx)
}

func namespaceName(i int) string { return fmt.Sprintf("team-%02d", i%namespaces) }

func (s *stage) makePods(ctx context.Context) error {
	next := make(chan int)
	errs := make(chan error, writers)
	var tasks sync.WaitGroup
	for range writers {
		tasks.Go(func() {
			for i := range next {
				p := pod(i)
				if _, err := s.pods.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{}); err != nil {
					errs <- fmt.Errorf("creating a Pod: %w", err)
					return
				}
			}
		})
	}
	var err error
	for i := 0; i < s.options.pods && err == nil; i++ {
		s.names = append(s.names, client.ObjectKey{Namespace: namespaceName(i), Name: fmt.Sprintf("web-%06d", i)})
		select {
		case next <- i:
		case err = <-errs:
		}
	}
	close(next)
	tasks.Wait()
	return err
}

// pod has two containers and keeps most rules of the library's samples: every
// twentieth breaks some of them.
func pod(i int) *corev1.Pod {
	amounts := corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("64Mi"), "ephemeral-storage": resource.MustParse("64Mi")}
	yes, no, user := true, false, int64(10000)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("web-%06d", i), Namespace: namespaceName(i),
			Labels:      map[string]string{"app": "web", "owner": "alice", "pod-template-hash": "5d4f8c7b9"},
			Annotations: map[string]string{"owner": "alice"},
		},
		Spec: corev1.PodSpec{AutomountServiceAccountToken: &no, SecurityContext: &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: "RuntimeDefault"}}},
	}
	for n := range 2 {
		probe := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{}}, PeriodSeconds: 10}
		probe.TCPSocket.Port.IntVal = int32(8080 + n)
		c := corev1.Container{
			Name: fmt.Sprintf("c%d", n), Image: "registry.example.com/app:1.2@sha256:" + strings.Repeat("0123456789abcdef", 4),
			Ports:         []corev1.ContainerPort{{ContainerPort: int32(8080 + n)}},
			LivenessProbe: probe, ReadinessProbe: probe,
			Resources: corev1.ResourceRequirements{Limits: amounts, Requests: amounts},
			SecurityContext: &corev1.SecurityContext{
				Privileged: &no, AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes, RunAsNonRoot: &yes, RunAsUser: &user, RunAsGroup: &user,
				Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			},
			Env: []corev1.EnvVar{{Name: "REGION", Value: "north"}, {Name: "STAGE", Value: "prod"}},
		}
		if i%20 == 0 {
			c.Image, c.ReadinessProbe, c.SecurityContext.ReadOnlyRootFilesystem = "docker.io/library/app:latest", nil, nil
		}
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
	return p
}

// policies applies the library's templates and, when those are ready, as many
// constraints as are asked for: the samples, under several names. All of them
// go through the API server, and so are there before the auditor starts.
func (s *stage) policies(ctx context.Context) error {
	names, err := fs.Glob(templates.FS, "*/template.yaml")
	if err != nil {
		return err
	}
	var onPods, others []*unstructured.Unstructured
	for _, name := range names {
		t, err := read(name)
		if err != nil {
			return err
		}
		if err := rig.Apply(ctx, s.admin, t); err != nil {
			return err
		}
		c, err := read(strings.TrimSuffix(name, "template.yaml") + "samples/constraint.yaml")
		if err != nil {
			return err
		}
		if matchesPods(c) {
			onPods = append(onPods, c)
			continue
		}
		others = append(others, c)
	}
	chosen := append(repeat(onPods, s.onPods), others...)
	chosen = append(chosen, repeat(others, max(0, s.options.constraints-len(chosen)+len(others)))[len(others):]...)
	for _, c := range chosen {
		if err := rig.Apply(ctx, s.admin, c); err != nil {
			return err
		}
	}
	s.constraints = chosen
	fmt.Fprintf(os.Stderr, "%d templates, %d constraints, %d of which match Pods\n", len(names), len(chosen), max(len(onPods), s.onPods))
	return nil
}

// repeat returns at least n of them, the later ones under other names.
func repeat(cs []*unstructured.Unstructured, n int) []*unstructured.Unstructured {
	out := cs
	for i := 0; len(out) < n; i++ {
		c := cs[i%len(cs)].DeepCopy()
		c.SetName(fmt.Sprintf("%s-%d", c.GetName(), 2+i/len(cs)))
		out = append(out, c)
	}
	return out[:max(n, len(cs))]
}

func matchesPods(c *unstructured.Unstructured) bool {
	kinds, _, _ := unstructured.NestedSlice(c.Object, "spec", "match", "kinds")
	for _, k := range kinds {
		if strings.Contains(fmt.Sprint(k), "Pod") && !strings.Contains(fmt.Sprint(k), "PodDis") {
			return true
		}
	}
	return len(kinds) == 0
}

func read(name string) (*unstructured.Unstructured, error) {
	text, err := templates.FS.ReadFile(name)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(text, &u.Object); err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return u, nil
}
