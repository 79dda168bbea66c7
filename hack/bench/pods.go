package main

import (
	"encoding/json"
	"fmt"
	"strings"
)

// pods are the subjects, each as an API server sends it when it is created:
// with all defaults, the token's volume and managed fields. The first has three
// containers and breaks some rules, as Pods in practice do; the second breaks
// none; the third is the first with as many environment variables as make it
// 11 KB or more.
func pods() []subject {
	usual := pod(3, "docker.io/library/app:1.2")
	relax(usual)
	large := pod(3, "docker.io/library/app:1.2")
	relax(large)
	for _, c := range containersOf(large) {
		var env []any
		for i := range 20 {
			env = append(env, map[string]any{"name": fmt.Sprintf("VARIABLE_%02d", i), "value": strings.Repeat("v", 24)})
		}
		c["env"] = env
	}
	clean := pod(3, "registry.example.com/app:1.2@sha256:"+strings.Repeat("0123456789abcdef", 4))
	return []subject{
		{"three containers", encode(admitted(usual))},
		{"clean", encode(admitted(clean))},
		{"large", encode(admitted(large))},
	}
}

func encode(object map[string]any) []byte {
	data, err := json.Marshal(object)
	if err != nil {
		panic(err) // it holds nothing but JSON
	}
	return data
}

// pod keeps the rules of the library's samples but for its images.
func pod(containers int, image string) map[string]any {
	var cs []any
	for i := range containers {
		cs = append(cs, container(fmt.Sprintf("c%d", i), image, 8080+i))
	}
	return map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{
			"generateName": "web-5d4f8c7b9-", "name": "web-5d4f8c7b9-x2x4p", "namespace": "team-a",
			"labels": map[string]any{"app": "web", "owner": "alice", "pod-template-hash": "5d4f8c7b9"},
		},
		"spec": map[string]any{"containers": cs, "automountServiceAccountToken": false},
	}
}

func container(name, image string, port int) map[string]any {
	probe := func() map[string]any {
		return map[string]any{
			"httpGet":       map[string]any{"path": "/", "port": port, "scheme": "HTTP"},
			"periodSeconds": 10, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3,
		}
	}
	amounts := func() map[string]any {
		return map[string]any{"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "64Mi"}
	}
	return map[string]any{
		"name": name, "image": image, "imagePullPolicy": "IfNotPresent",
		"ports":                  []any{map[string]any{"containerPort": port, "protocol": "TCP"}},
		"livenessProbe":          probe(),
		"readinessProbe":         probe(),
		"resources":              map[string]any{"limits": amounts(), "requests": amounts()},
		"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
		"securityContext": map[string]any{
			"privileged": false, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
			"runAsNonRoot": true, "runAsUser": 10000, "runAsGroup": 10000,
			"capabilities":   map[string]any{"drop": []any{"ALL"}},
			"seccompProfile": map[string]any{"type": "RuntimeDefault"},
		},
	}
}

func containersOf(pod map[string]any) []map[string]any {
	var out []map[string]any
	for _, c := range pod["spec"].(map[string]any)["containers"].([]any) {
		out = append(out, c.(map[string]any))
	}
	return out
}

// relax breaks some rules.
func relax(pod map[string]any) {
	for _, c := range containersOf(pod) {
		delete(c, "readinessProbe")
		delete(c["securityContext"].(map[string]any), "readOnlyRootFilesystem")
	}
}

// admitted adds what the API server and its admission plugins add before they
// call webhooks.
func admitted(pod map[string]any) map[string]any {
	spec, meta := pod["spec"].(map[string]any), pod["metadata"].(map[string]any)
	for key, value := range map[string]any{
		"restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
		"serviceAccountName": "default", "serviceAccount": "default", "schedulerName": "default-scheduler",
		"enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority", "priority": 0,
		"securityContext": map[string]any{"seccompProfile": map[string]any{"type": "RuntimeDefault"}},
		"tolerations":     []any{toleration("not-ready"), toleration("unreachable")},
	} {
		spec[key] = value
	}
	meta["managedFields"] = []any{map[string]any{
		"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
		"time": "2026-01-02T03:04:05Z", "fieldsType": "FieldsV1", "fieldsV1": fieldsOf(map[string]any{"metadata": map[string]any{"labels": meta["labels"]}, "spec": spec}),
	}}
	meta["uid"], meta["creationTimestamp"] = "0b3c1b9e-2f7a-4a39-9a53-7c1c6a0e3d11", "2026-01-02T03:04:05Z"
	meta["ownerReferences"] = []any{map[string]any{
		"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f8c7b9", "controller": true,
		"uid": "7e1f3c52-55cf-4f5e-8a53-0f4bb2d3d3aa", "blockOwnerDeletion": true,
	}}
	pod["status"] = map[string]any{"phase": "Pending", "qosClass": "Guaranteed"}
	return pod
}

func toleration(condition string) map[string]any {
	return map[string]any{
		"key": "node.kubernetes.io/" + condition, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300,
	}
}

// fieldsOf is a value as managed fields tell of it.
func fieldsOf(value any) map[string]any {
	out := map[string]any{}
	switch v := value.(type) {
	case map[string]any:
		for key, field := range v {
			out["f:"+key] = fieldsOf(field)
		}
	case []any:
		for _, item := range v {
			if m, ok := item.(map[string]any); ok && m["name"] != nil {
				fields := fieldsOf(m)
				fields["."] = map[string]any{}
				out[fmt.Sprintf("k:{\"name\":%q}", m["name"])] = fields
			}
		}
	}
	return out
}
