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

	"github.com/fusegate/fusegate/pkg/printable"
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

// mergePatch puts fields in the place of those in the object's status, if
// object is the latest, and returns the object as it has become.
func mergePatch(ctx context.Context, c client.Client, object *unstructured.Unstructured, fields map[string]any, owner client.FieldOwner) (*unstructured.Unstructured, error) {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": object.GetUID(), "resourceVersion": object.GetResourceVersion()},
		"status":   printable.Fields(fields),
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the status of %s/%s: %w", object.GetKind(), object.GetName(), err)
	}
	after := object.DeepCopy()
	if err := c.Status().Patch(ctx, after, client.RawPatch(types.MergePatchType, patch), owner); err != nil {
		return nil, fmt.Errorf("writing the status of %s/%s: %w", object.GetKind(), object.GetName(), err)
	}
	return after, nil
}
