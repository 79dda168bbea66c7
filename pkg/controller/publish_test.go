package controller

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/timing"
)

// TestEdition checks that a template is compiled once for each version of it.
func TestEdition(t *testing.T) {
	e, err := engine.New()
	if err != nil {
		t.Fatal(err)
	}
	p := NewPublisher(e, nil, logr.Discard())
	u := template("Once", "word", "string")
	u.SetUID("1")
	u.SetGeneration(1)
	first := p.edition(u)
	for name, tc := range map[string]struct {
		reason string
		edit   func(u *unstructured.Unstructured)
		same   bool
	}{
		"Status":      {"pods write it all the time", func(u *unstructured.Unstructured) { u.SetResourceVersion("7") }, true},
		"Annotations": {"they do not matter", func(u *unstructured.Unstructured) { u.SetAnnotations(map[string]string{"a": "b"}) }, true},
		"Generation":  {"the spec has changed", func(u *unstructured.Unstructured) { u.SetGeneration(2) }, false},
		"UID":         {"it is another object", func(u *unstructured.Unstructured) { u.SetUID("2") }, false},
		"Labels":      {"the CRD carries them", func(u *unstructured.Unstructured) { u.SetLabels(map[string]string{"a": "b"}) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			p.known["once"] = first
			v := u.DeepCopy()
			tc.edit(v)
			if got := p.edition(v) == first; got != tc.same {
				t.Errorf("kept: %t, want %t: %s", got, tc.same, tc.reason)
			}
		})
	}
}

// TestDeadPod has a template wait for a pod that does not answer, until its Lease
// has run out; nothing removes that here.
func TestDeadPod(t *testing.T) {
	_, c := admin(t)
	removeTemplate(t, c, "GhostKind")
	var ahead atomic.Int64
	census := newCensus(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	ghost := NewPresence(c, presences, "ghost", logr.Discard())
	if err := ghost.renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Delete(context.WithoutCancel(t.Context()), ghost.lease()); err != nil {
			t.Error(err)
		}
	})
	run(t, "ghost-leader", processOptions{census: census}).awaitReady(t)
	await(t, "the ghost to be counted", func() error {
		if alive, _, _ := census.alive(); !alive["ghost"] {
			return fmt.Errorf("got %v", alive)
		}
		return nil
	})
	ahead.Store(int64(timing.Production().PresenceTimeout * 3 / 4))
	apply(t, c, template("GhostKind", "word", "string"))
	awaitCondition(t, c, "ghostkind", v1alpha1.ReasonWaitingForPods, "ghost")
	awaitCondition(t, c, "ghostkind", v1alpha1.ReasonCompiled, "every pod")
}

// TestRetract checks which CRDs go when their template is not there.
func TestRetract(t *testing.T) {
	_, c := admin(t)
	p := NewPublisher(nil, nil, logr.Discard())
	p.client, p.live = c, c
	owner := metav1.OwnerReference{APIVersion: engine.TemplateGroup + "/v1", Kind: "ConstraintTemplate", UID: "1", Controller: new(bool)}
	*owner.Controller = true
	for name, tc := range map[string]struct {
		reason string
		owners func(o metav1.OwnerReference) []metav1.OwnerReference
		live   bool
		gone   bool
	}{
		"owned":  {"its template is gone", func(o metav1.OwnerReference) []metav1.OwnerReference { return []metav1.OwnerReference{o} }, false, true},
		"orphan": {"its template was deleted with --cascade=orphan", func(metav1.OwnerReference) []metav1.OwnerReference { return nil }, false, false},
		"stranger": {"somebody else's", func(o metav1.OwnerReference) []metav1.OwnerReference {
			o.APIVersion = "v1"
			return []metav1.OwnerReference{o}
		}, false, false},
		"alive": {"only a cache has lost the template", func(o metav1.OwnerReference) []metav1.OwnerReference { return []metav1.OwnerReference{o} }, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			kind := "Retract" + name
			u := template(kind, "word", "string")
			if tc.live {
				removeTemplate(t, c, kind)
				apply(t, c, u)
			}
			o := owner
			o.Name = u.GetName()
			crd := bareCRD(u.GetName(), kind)
			crd.OwnerReferences = tc.owners(o)
			if err := c.Create(t.Context(), crd); err != nil {
				t.Fatal(err)
			}
			// The API server is still writing the status: a conflict is retried.
			await(t, "the retraction", func() error { return p.retract(t.Context(), u.GetName()) })
			now := definition(t, c, u.GetName())
			if gone := now.UID == "" || now.DeletionTimestamp != nil; gone != tc.gone {
				t.Errorf("gone: %t, want %t: %s", gone, tc.gone, tc.reason)
			}
			if err := client.IgnoreNotFound(c.Delete(t.Context(), crd)); err != nil {
				t.Error(err)
			}
		})
	}
}

func bareCRD(template, kind string) *apiextensionsv1.CustomResourceDefinition {
	preserve := true
	crd := &apiextensionsv1.CustomResourceDefinition{}
	crd.Name = crdName(template)
	crd.Spec = apiextensionsv1.CustomResourceDefinitionSpec{
		Group: engine.ConstraintGroup, Scope: apiextensionsv1.ClusterScoped,
		Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: template, Kind: kind},
		Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
			Name: "v1beta1", Served: true, Storage: true,
			Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
				Type: "object", XPreserveUnknownFields: &preserve,
			}},
		}},
	}
	return crd
}

// TestMissing tells an object that is not there from a kind that is not.
func TestMissing(t *testing.T) {
	cfg, c := admin(t)
	if err := c.Get(t.Context(), client.ObjectKey{Name: "nothing"}, newObject(templateGVK())); !missing(err) {
		t.Errorf("of a template that is not there: %v, want it missing", err)
	}
	rest, err := client.New(cfg, client.Options{Scheme: scheme, Mapper: fixedMapper(schema.GroupVersionKind{Group: "nowhere.dev", Version: "v1", Kind: "Thing"})})
	if err != nil {
		t.Fatal(err)
	}
	thing := newObject(schema.GroupVersionKind{Group: "nowhere.dev", Version: "v1", Kind: "Thing"})
	if err := rest.Get(t.Context(), client.ObjectKey{Name: "nothing"}, thing); err == nil || !notServed(err) || missing(err) {
		t.Errorf("of a kind that is not served: %v (missing %t), want a NotFound that is not taken for a missing object", err, missing(err))
	}
}

// fixedMapper knows one kind, as a client does that discovered it before.
func fixedMapper(gvk schema.GroupVersionKind) apimeta.RESTMapper {
	m := apimeta.NewDefaultRESTMapper([]schema.GroupVersion{gvk.GroupVersion()})
	m.Add(gvk, apimeta.RESTScopeRoot)
	return m
}
