package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// unmergeable tells whether err may say that the API server cannot apply
// anything to the object, since what is stored of it does not fit its schema:
// "failed to create manager for existing fields", with code 500 and no reason
// (k8s.io/apimachinery pkg/util/managedfields/internal/structuredmerge.go). A
// template that changes the type of a parameter makes its constraints so, and
// that is when their status has something to say.
func unmergeable(err error) bool {
	status := apierrors.APIStatus(nil)
	return errors.As(err, &status) && status.Status().Code == http.StatusInternalServerError
}

// others are the entries of status.byPod but that of pod.
func others(object *unstructured.Unstructured, pod string) []any {
	list, _, _ := unstructured.NestedFieldNoCopy(object.Object, "status", "byPod")
	items, _ := list.([]any)
	out := make([]any, 0, len(items)+1)
	for _, item := range items {
		if entry, _ := item.(map[string]any); entry["id"] != pod {
			out = append(out, item)
		}
	}
	return out
}

// overwrite puts entries in the place of status.byPod, if object is the latest.
// No entry is lost: each process makes its own again when it sees it missing,
// and conflicts when it has not seen the others'.
func overwrite(ctx context.Context, c client.Client, object *unstructured.Unstructured, entries []any, pod string) error {
	return mergePatch(ctx, c, object, map[string]any{"byPod": entries}, manager(pod))
}

// mergePatch puts fields in the place of those in the object's status, if
// object is the latest.
func mergePatch(ctx context.Context, c client.Client, object *unstructured.Unstructured, fields map[string]any, owner client.FieldOwner) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": object.GetUID(), "resourceVersion": object.GetResourceVersion()},
		"status":   fields,
	})
	if err != nil {
		return fmt.Errorf("encoding the status of %s/%s: %w", object.GetKind(), object.GetName(), err)
	}
	err = c.Status().Patch(ctx, object.DeepCopy(), client.RawPatch(types.MergePatchType, patch), owner)
	if err != nil {
		return fmt.Errorf("writing the status of %s/%s: %w", object.GetKind(), object.GetName(), err)
	}
	return nil
}
