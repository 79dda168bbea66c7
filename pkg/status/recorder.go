package status

import (
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	recording "sigs.k8s.io/controller-runtime/pkg/recorder"

	"github.com/fusegate/fusegate/pkg/printable"
)

// maxNote is how long the note of an Event may be, in bytes: the API server refuses a
// longer one, and the Event is lost (noteLengthLimit in k8s.io/kubernetes
// pkg/apis/core/validation/events.go).
const maxNote = 1024

// Recording returns the manager with Recorder around its event recorders.
func Recording(m ctrl.Manager) ctrl.Manager { return printableManager{m} }

type printableManager struct{ ctrl.Manager }

// GetEventRecorder implements recorder.Provider.
func (m printableManager) GetEventRecorder(name string) recording.EventRecorder {
	return Recorder(m.Manager.GetEventRecorder(name))
}

// Recorder returns r with every note made one printable line, of a length that the API
// server takes.
func Recorder(r recording.EventRecorder) recording.EventRecorder { return eventRecorder{r} }

type eventRecorder struct{ to recording.EventRecorder }

// Eventf implements events.EventRecorder.
func (r eventRecorder) Eventf(regarding, related runtime.Object, eventtype, reason, action, note string, args ...any) {
	r.to.Eventf(regarding, related, eventtype, reason, action, "%s", noteOf(note, args))
}

// AnnotatedEventf implements events.AnnotatedEventRecorder.
func (r eventRecorder) AnnotatedEventf(regarding, related runtime.Object, annotations map[string]string, eventtype, reason, action, note string, args ...any) {
	r.to.AnnotatedEventf(regarding, related, annotations, eventtype, reason, action, "%s", noteOf(note, args))
}

func noteOf(note string, args []any) string {
	return printable.LineMax(fmt.Sprintf(note, args...), maxNote)
}
